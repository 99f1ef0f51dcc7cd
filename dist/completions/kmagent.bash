# shellcheck shell=bash
# Completion of kmagent in bash: commands, flags and what these take. It needs bash 4 and nothing else.
#
# Installed as share/bash-completion/completions/kmagent it is loaded at the first Tab; elsewhere, source it. It repeats
# what `kmagent --help` lists: tests/completions compares the two.

_kmagent() {
    local settings='--agent-config --config --seed-config --collector --collector-args --collector-endpoint --api-key
        --api-key-file --update-token-file --config-check-interval --update-endpoint --local-config --docker-mode --docker-endpoint --host-name --log-level
        --log-format --state-dir --run-dir --ca-file --allow-http --report-extended --instance-id --on-change --restart-mode
        --stop-timeout --min-uptime --start-timeout --confirm-time --validate-timeout --collector-log-rate --policy
        --poll-timeout --max-config-size --generations --generations-size'
    local cur=${COMP_WORDS[COMP_CWORD]} mode='' given=' ' flag='' value_of='' takes_value='' prefix='' word i
    COMPREPLY=()

    # `--NAME=VALUE` is three words, since = is in COMP_WORDBREAKS; without = in it, it is one.
    for ((i = 1; i < ${#COMP_WORDS[@]}; i++)); do
        word=${COMP_WORDS[i]}
        if ((i == COMP_CWORD)); then
            value_of=$takes_value takes_value=''
            if [[ $word == = ]]; then
                value_of=$flag cur=''
            elif [[ $word == --*=* && -z $value_of ]]; then
                value_of=${word%%=*} prefix=${word%%=*}= cur=${word#*=}
            fi
        elif [[ $word == = ]]; then
            takes_value=$flag
        elif [[ $takes_value ]]; then
            takes_value=''
        else
            flag=${word%%=*}
            given+="$flag "
            case $word in
                start | stop | reload | restart | retry | status | cluster | --check | --print-settings) mode=$word ;;
                --help | -h | --version | -V) return ;;
                --docker-mode | --allow-http | --report-extended | --dry-run | --json | --ready | --*=*) ;;
                --*) takes_value=$flag ;;
            esac
        fi
    done

    if [[ $value_of ]]; then
        local kind=''
        case $value_of in
            --agent-config | --config | --seed-config | --collector | --api-key-file | --update-token-file | --local-config | \
                --ca-file | --policy) kind=-f ;;
            --state-dir | --run-dir) kind=-d ;;
            --docker-mode | --allow-http | --report-extended) kind='true false' ;;
            --log-level) kind='error warn info debug' ;;
            --log-format) kind='json text' ;;
            --restart-mode) kind='auto restart handover' ;;
        esac
        case $kind$prefix in
            # Readline's own completion of names knows about quotes and tildes.
            -f) compopt -o default ;;
            -d) compopt -o dirnames ;;
            -[fd]*) mapfile -t COMPREPLY < <(compgen -P "$prefix" "$kind" -- "$cur") ;;
            *) mapfile -t COMPREPLY < <(compgen -P "$prefix" -W "$kind" -- "$cur") ;;
        esac
        return
    fi

    local offers=''
    case $mode in
        '')
            offers='start stop reload restart retry status cluster'
            [[ $cur != -* ]] || offers="--check --print-settings --version --help $settings"
            ;;
        # Of the settings they need none but where the agent is.
        stop | reload | restart | retry) offers='--agent-config --run-dir' ;;
        # Its settings are a pod's environment.
        cluster) ;;
        status) offers='--json --ready --agent-config --run-dir' ;;
        --check) offers="--dry-run --json --splay $settings" ;;
        *) offers=$settings ;;
    esac
    for word in $offers; do
        if [[ $word == "$cur"* && $given != *" $word "* ]]; then COMPREPLY+=("$word"); fi
    done
}

complete -F _kmagent kmagent
