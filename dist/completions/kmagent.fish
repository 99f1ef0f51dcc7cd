# Completion of kmagent in fish: commands, flags and what these take.
#
# Installed in share/fish/vendor_completions.d. It repeats what `kmagent --help` lists: tests/completions compares the
# two.

# The flags that no word follows as their value.
set -g __kmagent_switches --docker-mode --allow-http --report-extended --dry-run --json --ready

# The command that stands before the cursor: a word of the usage, `done` when --help or --version ends it, or nothing
# yet.
function __kmagent_mode
    set -l takes_value
    set -l mode
    for word in (commandline -opc)[2..-1]
        if test -n "$takes_value"
            set takes_value
            continue
        end
        switch $word
            case start stop reload restart retry status cluster --check --print-settings
                set mode $word
            case --help -h --version -V
                set mode done
            case $__kmagent_switches '--*=*'
            case '--*'
                set takes_value yes
        end
    end
    echo $mode
end

# Whether the command is one of the arguments.
function __kmagent_does
    contains -- (__kmagent_mode) $argv
end

# Whether there is no command yet.
function __kmagent_does_nothing
    test -z (__kmagent_mode)
end

# Whether the flag --NAME is not given yet, or just now and its value comes next.
function __kmagent_lacks --argument-names name
    set -l words (commandline -opc)
    test "$words[-1]" = --$name; and not contains -- --$name $__kmagent_switches; and return 0
    not contains -- --$name $words; and not string match --quiet -- "--$name=*" $words
end

# Whether a command of which --NAME is a setting may take it here.
function __kmagent_takes --argument-names name
    contains -- (__kmagent_mode) '' start --check --print-settings; and __kmagent_lacks $name
end

# The same for the two settings that say where the agent is: what is asked of it needs none but these.
function __kmagent_finds --argument-names name
    not contains -- (__kmagent_mode) done cluster; and __kmagent_lacks $name
end

# Directories that begin with the word, or with what follows its =.
function __kmagent_directories
    __fish_complete_directories (string replace --regex -- '^--[a-z-]*=' '' (commandline -ct))
end

complete -c kmagent -f
complete -c kmagent -n __kmagent_does_nothing -a start -d 'supervises the collector in the foreground'
complete -c kmagent -n __kmagent_does_nothing -a stop -d 'asks the running agent to stop, and waits until it has'
complete -c kmagent -n __kmagent_does_nothing -a reload -d 'has the running agent read its settings again'
complete -c kmagent -n __kmagent_does_nothing -a restart -d 'replaces the running collector, by hand-over if possible'
complete -c kmagent -n __kmagent_does_nothing -a retry -d 'has the rejected config tried again, and shows the outcome'
complete -c kmagent -n __kmagent_does_nothing -a status -d 'shows what the running agent is doing'
complete -c kmagent -n __kmagent_does_nothing -a cluster -d 'updates the configs in a Kubernetes cluster'
complete -c kmagent -n __kmagent_does_nothing -l check -d 'does one config check and exits'
complete -c kmagent -n __kmagent_does_nothing -l print-settings -d 'shows every setting, its value and where it comes from'
complete -c kmagent -n __kmagent_does_nothing -s V -l version -d 'shows the version'
complete -c kmagent -n __kmagent_does_nothing -s h -l help -d 'shows the usage on one screen'

complete -c kmagent -n '__kmagent_does --check; and __kmagent_lacks dry-run' -l dry-run -d 'does every step except the install'
complete -c kmagent -n '__kmagent_does --check status; and __kmagent_lacks json' -l json -d 'reports as JSON'
complete -c kmagent -n '__kmagent_does status; and __kmagent_lacks ready' -l ready -d 'ends with 0 only if a collector runs'
complete -c kmagent -n '__kmagent_does --check; and __kmagent_lacks splay' -l splay -x -d 'sleeps a random part of time first'

complete -c kmagent -n '__kmagent_finds agent-config' -l agent-config -r -F -d 'the settings file'
complete -c kmagent -n '__kmagent_finds run-dir' -l run-dir -x -a '(__kmagent_directories)' -d 'the control socket and the lock'
complete -c kmagent -n '__kmagent_takes config' -l config -r -F -d 'the collector\'s config'
complete -c kmagent -n '__kmagent_takes seed-config' -l seed-config -r -F -d 'a config to begin with'
complete -c kmagent -n '__kmagent_takes local-config' -l local-config -r -F -d 'the overlay'
complete -c kmagent -n '__kmagent_takes state-dir' -l state-dir -x -a '(__kmagent_directories)' -d 'the agent\'s state'
complete -c kmagent -n '__kmagent_takes generations' -l generations -x -d 'how many configs that were active are kept'
complete -c kmagent -n '__kmagent_takes generations-size' -l generations-size -x -d 'the size that the kept configs may have together'
complete -c kmagent -n '__kmagent_takes api-key' -l api-key -x -d 'the API key'
complete -c kmagent -n '__kmagent_takes api-key-file' -l api-key-file -r -F -d 'a file with the API key'
complete -c kmagent -n '__kmagent_takes update-token-file' -l update-token-file -r -F -d 'a file with what the API gets instead of the key'
complete -c kmagent -n '__kmagent_takes config-check-interval' -l config-check-interval -x -d 'time between two config checks'
complete -c kmagent -n '__kmagent_takes update-endpoint' -l update-endpoint -x -d 'the API\'s URL'
complete -c kmagent -n '__kmagent_takes ca-file' -l ca-file -r -F -d 'the authorities that may sign the API\'s certificate'
complete -c kmagent -n '__kmagent_takes allow-http' -l allow-http -a 'true false' -d 'allows sending the API key in cleartext'
complete -c kmagent -n '__kmagent_takes report-extended' -l report-extended -a 'true false' -d 'reports revisions, restarts and uptime too'
complete -c kmagent -n '__kmagent_takes instance-id' -l instance-id -x -d 'the instance that an extended report names'
complete -c kmagent -n '__kmagent_takes policy' -l policy -r -F -d 'the rules for the API\'s configs'
complete -c kmagent -n '__kmagent_takes poll-timeout' -l poll-timeout -x -d 'timeout for the API\'s whole answer'
complete -c kmagent -n '__kmagent_takes max-config-size' -l max-config-size -x -d 'maximum size of the API\'s answer'
complete -c kmagent -n '__kmagent_takes collector' -l collector -r -F -d 'the collector\'s executable'
complete -c kmagent -n '__kmagent_takes collector-args' -l collector-args -x -d 'an argument for the collector'
complete -c kmagent -n '__kmagent_takes collector-endpoint' -l collector-endpoint -x -d 'where the collector sends telemetry'
complete -c kmagent -n '__kmagent_takes docker-mode' -l docker-mode -a 'true false' -d 'reports this host as a container'
complete -c kmagent -n '__kmagent_takes docker-endpoint' -l docker-endpoint -x -d 'where the collector finds Docker'
complete -c kmagent -n '__kmagent_takes restart-mode' -l restart-mode -x -a 'auto restart handover' -d 'how a new config is applied'
complete -c kmagent -n '__kmagent_takes stop-timeout' -l stop-timeout -x -d 'time from SIGTERM to SIGKILL'
complete -c kmagent -n '__kmagent_takes min-uptime' -l min-uptime -x -d 'the probation'
complete -c kmagent -n '__kmagent_takes start-timeout' -l start-timeout -x -d 'the time after which a collector counts as ready'
complete -c kmagent -n '__kmagent_takes confirm-time' -l confirm-time -x -d 'the time after which a config is confirmed'
complete -c kmagent -n '__kmagent_takes validate-timeout' -l validate-timeout -x -d 'timeout for the collector\'s own validation'
complete -c kmagent -n '__kmagent_takes collector-log-rate' -l collector-log-rate -x -d 'lines of the collector that are logged in a minute'
complete -c kmagent -n '__kmagent_takes host-name' -l host-name -x -d 'the host name that is reported to the API'
complete -c kmagent -n '__kmagent_takes log-level' -l log-level -x -a 'error warn info debug' -d 'the lowest level to log'
complete -c kmagent -n '__kmagent_takes log-format' -l log-format -x -a 'json text' -d 'JSON or text'
complete -c kmagent -n '__kmagent_takes on-change' -l on-change -x -d 'what --check runs after an install'
