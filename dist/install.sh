#!/bin/sh
# Installs kmagent from the unpacked tarball that this script lies in, upgrades it, or removes it. --help says how to
# use it.
#
# Everything is checked first, then put beside what is there, then swapped in by renames; at last the service is
# restarted, once. Any failure, including an agent that does not start, rolls everything back. It needs no network, and
# no program that busybox does not have.
#
# Settings and key are root's, since root runs what they name; the config is the agent's, in its state directory, and
# a link leads there. Where an earlier release has given all of it to the agent's user, it is moved over: the directory
# is taken first, so that its names are nobody else's to change; then each file is looked at, and replaced by a copy.
set -eu
umask 022
# Bytes, not characters; and messages that can be compared.
LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export LC_ALL PATH

account=kmagent
etc=/etc/kmagent
state=/var/lib/kmagent
api_of_1x=https://api.kloudmate.com/agents/config-check
nowhere=/nonexistent # the account's home: where it could write, a config could leave an authorized_keys
newline='
'

usage() {
    cat <<'EOF'
usage: ./install.sh [--api-key-file FILE] [--no-start] [--init NAME]
       ./install.sh --uninstall [--purge]

Installs kmagent from the unpacked tarball that install.sh lies in, or upgrades
it. Run it as root, unless DESTDIR is set.

  --api-key-file FILE  take the API key from FILE (- is standard input)
  --no-start           neither start nor restart the service; it is enabled, so
                       it starts with the host
  --init NAME          systemd, openrc, procd, sysv or none, instead of the
                       service manager that is found
  --uninstall          remove what was installed, but keep settings, config, key
                       and state
  --purge              remove these too, and the user if install.sh created it
  --help               show this

environment:
  PREFIX               where the programs go (/usr/local); settings go to
                       /etc/kmagent. An upgrade and --uninstall know it
  DESTDIR              the root of another system, for packages and images, with
                       --init: no user is created, no owner changed and no
                       service enabled; README.md has the commands for that
  KM_API_KEY           the API key; it is written to /etc/kmagent/api-key
  KM_COLLECTOR_ENDPOINT, KM_UPDATE_ENDPOINT, KM_HOST_NAME, ...
                       each setting of kmagent.yaml(5) except the directories;
                       they are written to /etc/kmagent/agent.yaml

At a terminal the key and the collector endpoint are asked for if they are not
known. Existing settings, key and config keep their content. A failed install is
rolled back, and an agent that was running keeps running or is started again.

exit status:
  0   done, or nothing to do
  64  wrong usage, or a package of kmagent is installed
  65  the tarball is damaged, or the new collector rejects the active config
  69  wrong machine, a program is missing, or the agent does not start
  71  the system refused an account or the service, or it is masked
  73  a file cannot be written
  75  another install.sh is running
  77  not root
  78  the settings are invalid
EOF
}

# A closed standard output is no reason to stop halfway.
say() { printf '%s\n' "$*" 2>/dev/null || :; }
warn() { printf 'install.sh: %s\n' "$*" >&2 || :; }
die() {
    code=$1
    shift
    warn "$*"
    exit "$code"
}
have() { command -v "$1" >/dev/null 2>&1; }

# ---- the roll back: commands, the newest first, with every path in single quotes

undo=''
begun='' # whether that is more than a directory for our own use
on_failure() { undo="$*$newline$undo"; }

finish() {
    code=$?
    set +e
    # What was not expected to fail has failed, and has said so.
    case $code in 1 | 2 | 126 | 127) code=71 ;; esac
    trap '' INT TERM HUP
    trap - EXIT
    [ -z "$terminal" ] || stty "$terminal"
    if [ "$code" -ne 0 ] && [ -n "$undo" ]; then
        [ -z "$begun" ] || warn "rolling back"
        while [ -n "$undo" ]; do
            step=${undo%%"$newline"*}
            undo=${undo#*"$newline"}
            eval "$step" </dev/null >/dev/null || warn "could not undo: $step"
        done
    fi
    if [ "$code" -ne 0 ] && [ -n "$left" ]; then
        # The next run goes on from there.
        printf '%s\n' "$left" >"$stage/journal" && clear_stage
    elif [ -n "$staged" ]; then
        rm -rf "$stage"
    fi
    exit "$code"
}

# ---- the journal of what is under way, in $stage, as "WORD REST" lines: should this run be killed or the power fail,
# the next one goes on from it

left='' # that of an interrupted run
note() { [ -z "$staged" ] || printf '%s\n' "$*" >>"$stage/journal" || die 73 "cannot write $stage/journal"; }
noted_left() { printf '%s\n' "$left" | sed -n "s:^$1 ::p"; }
owes() { noted_left owed | grep -qx "$1"; }
clear_stage() { for file in "$stage"/*; do [ "$file" = "$stage/journal" ] || rm -rf "$file"; done; }

# After the manifest was read. What was on its way out comes back, since it may still be needed; second names go.
go_on() {
    if [ -z "$left" ]; then return 0; fi
    left_files=$(noted_left file)
    left_beside=$(noted_left beside)
    old_files="$old_files $left_files"
    # The innermost first.
    old_dirs=$({ printf '%s\n' "$old_dirs" && noted_left dir; } | sort -ru)
    for file in $old_files $left_beside; do
        place=$DESTDIR$file old=$DESTDIR$(beside "$file" old)
        if [ ! -e "$place" ] && [ -e "$old" ]; then move "$old" "$place" || die 73 "cannot restore $place"; fi
        rm -f "$old" "$DESTDIR$(beside "$file" new)" || die 73 "cannot remove the temporary files beside $place"
    done
}

# ---- files: paths are those of the installed system; DESTDIR goes before them only where they are used

made=''    # directories that were made, the innermost first
making=dir # what the journal calls them
pending='' # files that lie beside their place
aside=''   # files that were moved out of the way
files=''   # everything that is installed
changed='' # whether that concerns the running service
linked=''  # whether the config has become a link

beside() { printf '%s/.%s.kmagent-%s' "${1%/*}" "${1##*/}" "$2"; }

make_dirs() {
    if [ -z "$1" ] || [ -d "$DESTDIR$1" ]; then return 0; fi
    make_dirs "${1%/*}"
    note "$making" "$1"
    mkdir "$DESTDIR$1" || die 73 "cannot create the directory $DESTDIR$1"
    on_failure "rmdir '$DESTDIR$1'"
    made="$1 $made"
}

# same FILE FILE
same() {
    if have cmp; then cmp -s "$1" "$2"; else [ "$(sha256sum <"$1")" = "$(sha256sum <"$2")" ]; fi
}

# put MODE SOURCE TARGET: beside its place; one that is there already stays.
put() {
    files="$files $3"
    if [ -f "$DESTDIR$3" ] && same "$2" "$DESTDIR$3" && { [ "$1" != 755 ] || [ -x "$DESTDIR$3" ]; }; then return 0; fi
    make_dirs "${3%/*}"
    new=$DESTDIR$(beside "$3" new)
    on_failure "rm -f '$new'"
    note beside "$3"
    rm -f "$new"
    { cp "$2" "$new" && chmod "$1" "$new"; } || die 73 "cannot write $new"
    pending="$pending $3"
    case $3 in
        "$PREFIX"/share/*) ;;
        "$PREFIX"/bin/* | "$PREFIX"/lib/kmagent/kmagent-collector | */kmagent.service | */kmagent.service.d/* | /etc/init.d/*) changed=yes ;;
    esac
}

# What is new is on the disk before any name points to it. Only that: some other file system may hang.
write_through() {
    set --
    if [ -e "$stage/journal" ]; then set -- "$stage/journal"; fi
    for target in $pending; do set -- "$@" "$DESTDIR$(beside "$target" new)"; done
    for file in $fresh; do set -- "$@" "$stage/$file"; done
    if [ $# -gt 0 ]; then sync "$@" 2>/dev/null || die 73 "cannot sync the new files to the disk"; fi
}

restore() {
    if [ ! -e "$1" ] && [ ! -h "$1" ]; then return 0; fi
    # Two names of one file are more than mv takes.
    # shellcheck disable=SC3013 # dash and busybox have it
    if [ "$1" -ef "$2" ]; then rm -f "$1"; else move "$1" "$2"; fi
}

# move FILE NAME: mv(1) would follow a link to a directory, and put it in there.
move() {
    if [ -h "$2" ]; then rm -f "$2"; fi
    mv -f "$1" "$2"
}

# The old file keeps a second name until all is well; at no time is there none.
swap_in() {
    for target in $pending; do
        place=$DESTDIR$target new=$DESTDIR$(beside "$target" new) old=$DESTDIR$(beside "$target" old)
        if [ -e "$place" ] || [ -h "$place" ]; then
            rm -f "$old"
            on_failure "restore '$old' '$place'"
            aside="$aside $target"
            ln "$place" "$old" 2>/dev/null || cp -p "$place" "$old" || die 73 "cannot save $place as $old"
        else
            on_failure "rm -f '$place'"
        fi
        note file "$target"
        mv -f "$new" "$place" || die 73 "cannot replace $place"
    done
}

set_aside() {
    place=$DESTDIR$1 old=$DESTDIR$(beside "$1" old)
    if [ ! -e "$place" ] && [ ! -h "$place" ]; then return 0; fi
    on_failure "restore '$old' '$place'"
    aside="$aside $1"
    { rm -f "$old" && mv -f "$place" "$old"; } || die 73 "cannot remove $place"
}

# From here on nothing is undone, so nothing fails any more.
commit() {
    undo=''
    set +e
    for target in $aside; do rm -f "$DESTDIR$(beside "$target" old)" || warn "could not remove an old $target"; done
    # No agent can any more.
    if [ -n "$linked" ]; then rm -f "$DESTDIR$etc"/.config.yaml.candidate-*; fi
}

# ---- the manifest of what is installed: "WORD REST" lines. It is ours, in a directory of root.

noted() { if [ -f "$DESTDIR$manifest" ]; then sed -n "s:^$1 ::p" "$DESTDIR$manifest"; fi; }

# What outlives --uninstall, for --purge. The agent's user may have written an old one, so only these words are
# believed.
kept=$etc/.installed
# Where the programs are, for an upgrade from another directory. In root's own directory, since root runs what is there.
record=$etc.prefix
noted_kept() {
    if [ -f "$DESTDIR$kept" ]; then
        sed -n -e '/^user$/p' -e '/^group$/p' -e '/^member adm$/p' -e '/^member systemd-journal$/p' -e '/^dir \/etc$/p' \
            -e '/^dir \/etc\/kmagent$/p' -e '/^dir \/var$/p' -e '/^dir \/var\/lib$/p' "$DESTDIR$kept"
    fi
    noted_left kept
}

# ---- accounts: useradd, else busybox's adduser, else the files themselves, as OpenWrt does it

has_user() { id -u "$account" >/dev/null 2>&1; }
has_group() {
    if have getent; then getent group "$1" >/dev/null; else grep -q "^$1:" /etc/group 2>/dev/null; fi
}
is_member() { id -Gn "$account" 2>/dev/null | tr ' ' '\n' | grep -qx "$1"; }
is_busybox() { have "$1" && "$1" --help 2>&1 | grep -q BusyBox; }

# rewrite FILE COMMAND...: FILE becomes what COMMAND makes of it, by rename, with the mode that it has.
rewrite() {
    file=$1
    shift
    if cp -p "$file" "$file.kmagent-new" && "$@" <"$file" >"$file.kmagent-new" && sync "$file.kmagent-new" &&
        mv -f "$file.kmagent-new" "$file"; then
        # SELinux has a label for these files, which a copy lacks.
        if have restorecon; then restorecon "$file" || :; fi
        return 0
    fi
    rm -f "$file.kmagent-new"
    return 1
}

append() { cat && printf '%s\n' "$1"; }

free_id() {
    ids=$(cut -d : -f 3 /etc/passwd /etc/group) || return 1
    free=999
    while printf '%s\n' "$ids" | grep -qx "$free"; do free=$((free - 1)); done
    [ "$free" -ge 100 ] && echo "$free"
}

add_group() {
    if have groupadd; then
        groupadd -r "$account"
    elif is_busybox addgroup; then
        addgroup -S "$account"
    else
        id=$(free_id) && rewrite /etc/group append "$account:x:$id:"
    fi
}

add_user() {
    shell=/bin/false
    for nologin in /usr/sbin/nologin /sbin/nologin; do [ ! -x "$nologin" ] || shell=$nologin; done
    if have useradd; then
        useradd -r -g "$account" -d "$nowhere" -M -s "$shell" "$account"
    elif is_busybox adduser; then
        adduser -S -D -H -h "$nowhere" -s "$shell" -G "$account" "$account"
    else
        gid=$(sed -n "s/^$account:[^:]*:\([0-9]*\):.*/\1/p" /etc/group) && id=$(free_id) &&
            rewrite /etc/passwd append "$account:x:$id:$gid:kmagent:$nowhere:$shell" &&
            { [ ! -f /etc/shadow ] || rewrite /etc/shadow append "$account:!:::::::"; }
    fi
}

add_member() {
    if have usermod; then
        usermod -a -G "$1" "$account"
    elif is_busybox addgroup; then
        addgroup "$account" "$1"
    else
        rewrite /etc/group sed "s/^\($1:.*[^:]\)\$/\1,$account/;s/^\($1:.*:\)\$/\1$account/"
    fi
}

drop_member() {
    if have gpasswd; then
        gpasswd -d "$account" "$1" >/dev/null
    elif is_busybox delgroup; then
        delgroup "$account" "$1"
    else
        rewrite /etc/group sed "/^$1:/{s/\([:,]\)$account,/\1/;s/[,]$account\$//;s/:$account\$/:/;}"
    fi
}

drop_user() {
    if have userdel; then
        userdel "$account"
    elif is_busybox deluser; then
        deluser "$account"
    else
        { [ ! -f /etc/shadow ] || rewrite /etc/shadow sed "/^$account:/d"; } && rewrite /etc/passwd sed "/^$account:/d"
    fi
}

drop_group() {
    has_group "$account" || return 0
    if have groupdel; then
        groupdel "$account"
    elif is_busybox delgroup; then
        delgroup "$account"
    else
        rewrite /etc/group sed "/^$account:/d"
    fi
}

home_of() { if have getent; then getent passwd "$account"; else grep "^$account:" /etc/passwd; fi | cut -d : -f 6; }

# set_home OLD NEW, while processes of the account run, which usermod(8) refuses. Under the lock of useradd(8) and the
# like: the number of a process that lives.
set_home() {
    tries=0
    until (set -C && echo $$ >/etc/passwd.lock) 2>/dev/null; do
        if ! kill -0 "$(cat /etc/passwd.lock)" 2>/dev/null; then rm -f /etc/passwd.lock; fi
        if [ "$tries" -ge 10 ]; then return 1; fi
        tries=$((tries + 1))
        sleep 1
    done
    changed_home=''
    if rewrite /etc/passwd sed "s;^\($account:[^:]*:[^:]*:[^:]*:[^:]*\):$1:;\1:$2:;"; then changed_home=yes; fi
    rm -f /etc/passwd.lock
    [ -n "$changed_home" ]
}

# Earlier releases made the agent's state its home.
leave_home() {
    if [ "$(home_of)" != "$state" ]; then return 0; fi
    if ! grep -q "^$account:.*:$state:" /etc/passwd; then
        warn "the home of $account is $state, where its collector writes: change it to $nowhere where the account is kept"
        return 0
    fi
    say "changing the home of $account to $nowhere"
    on_failure "set_home '$nowhere' '$state'"
    set_home "$state" "$nowhere" || die 71 "cannot change the home of $account"
}

accounts='' # what is ours, a line each
claim() {
    note kept "$1"
    accounts="$accounts$1$newline"
}

make_accounts() {
    if ! has_group "$account"; then
        say "creating the system group $account"
        on_failure "drop_group"
        claim group
        add_group || die 71 "cannot create the group $account"
    fi
    if ! has_user; then
        say "creating the system user $account"
        on_failure "if has_user; then drop_user; fi"
        claim user
        add_user || die 71 "cannot create the user $account"
    fi
    leave_home
    # Which may read logs.
    for group in adm systemd-journal; do
        if ! has_group "$group" || is_member "$group"; then continue; fi
        say "adding $account to the group $group"
        on_failure "if is_member $group; then drop_member $group; fi"
        claim "member $group"
        add_member "$group" || die 71 "cannot add $account to the group $group"
    done
}

# ---- services

find_init() {
    if [ -n "$DESTDIR" ]; then
        echo none
    elif [ -d /run/systemd/system ]; then
        echo systemd
    elif have rc-service && [ -d /run/openrc ]; then
        echo openrc
    elif [ -x /sbin/procd ] && [ -f /etc/rc.common ]; then
        echo procd
    else
        case $(readlink -f /sbin/init 2>/dev/null || :) in
            */systemd) echo systemd ;; # it is installed, but does not run: a chroot, an image
            *) if [ -d /etc/init.d ]; then echo sysv; else echo none; fi ;;
        esac
    fi
}

# Whether the init system is there to start anything.
is_live() { [ -z "$DESTDIR" ] && [ "$init" != none ] && { [ "$init" != systemd ] || [ -d /run/systemd/system ]; }; }

# With PREFIX in the place of /usr/local.
put_service() {
    sed -e "s:/usr/local/bin/kmagent:$PREFIX/bin/kmagent:g" -e "s:/usr/local/lib/kmagent:$PREFIX/lib/kmagent:g" \
        "$here/services/$2" >"$stage/service" || die 73 "cannot write $stage"
    # An operator may have adapted it to the host.
    recorded=$(noted "script $3")
    if noted_left file | grep -qx "$3"; then recorded=''; fi
    present=$recorded
    if [ -f "$DESTDIR$3" ]; then present=$(sum "$DESTDIR$3"); fi
    if [ -n "$recorded" ] && [ "$present" != "$recorded" ] && ! same "$stage/service" "$DESTDIR$3"; then
        say "keeping $3, since it was changed; the new one is in $PREFIX/share/doc/kmagent/services"
        files="$files $3" scripts="${scripts}script $3 $recorded$newline"
        return 0
    fi
    put "$1" "$stage/service" "$3"
    case $3 in /etc/*) scripts="${scripts}script $3 $(sum "$stage/service")$newline" ;; esac
}
sum() { line=$(sha256sum <"$1") && echo "${line%% *}"; }

# A mask, or a unit or drop-in that starts another program: it goes before our unit, so the service would not come up,
# or be another than the one that was checked.
check_units() {
    if [ -n "$DESTDIR" ] || [ "$init" != systemd ] || [ "$action:$old_init" = none:systemd ]; then return 0; fi
    for dir in /etc/systemd/system /run/systemd/system; do
        for unit in "$dir/kmagent.service" "$dir"/kmagent.service.d/*.conf; do
            if { [ ! -e "$unit" ] && [ ! -h "$unit" ]; } || is_ours "$unit"; then continue; fi
            masked=''
            case $(readlink -f "$unit") in /dev/null) masked=yes ;; *) [ ! -e "$unit" ] || [ -s "$unit" ] || masked=yes ;; esac
            if [ ! -e "$unit" ]; then
                die 71 "$unit is a link to nothing; nothing was changed: type \`rm $unit && systemctl daemon-reload\`," \
                    "then \`$here/install.sh\`"
            fi
            case $masked:$unit in
                yes:/run/*.service) die 71 "kmagent.service is masked, so it would not start; nothing was changed: type" \
                    "\`systemctl unmask --runtime kmagent.service\`, then \`$here/install.sh\`" ;;
                yes:*.service) die 71 "kmagent.service is masked, so it would not start; nothing was changed: type" \
                    "\`systemctl unmask kmagent.service\`, then \`$here/install.sh\`" ;;
            esac
            if ! starts_another "$unit"; then continue; fi
            # What it starts remains there for a roll back.
            case $unit in
                *.service) moved=/usr/lib/systemd/system/kmagent.service ;;
                *) moved=${unit%.conf}.off ;;
            esac
            die 71 "$unit starts another program than $PREFIX/bin/kmagent, in place of the unit of this release;" \
                "nothing was changed: type \`mv $unit $moved && systemctl daemon-reload\`, then \`$here/install.sh\`"
        done
    done
}
is_ours() { for file in $old_files; do [ "$file" != "$1" ] || return 0; done && return 1; }
starts_another() {
    sed -n 's/^[[:blank:]]*ExecStart[[:blank:]]*=[[:blank:]]*//p' "$1" | grep -v '^$' |
        grep -qv "^\(.*[^A-Za-z0-9/._+-]\)\{0,1\}$PREFIX/bin/kmagent\([^A-Za-z0-9/._+-].*\)\{0,1\}\$"
}

put_services() {
    case $init in
        systemd)
            # Where systemd looks for units that come with a program; what it does not search, /etc has to do for.
            case $PREFIX in /usr | /usr/local) units=$PREFIX/lib/systemd/system ;; *) units=/etc/systemd/system ;; esac
            admins=/etc/systemd/system/kmagent.service
            if [ "$units/kmagent.service" != "$admins" ] && [ -s "$DESTDIR$admins" ]; then
                warn "$admins overrides the unit of this release: check that it starts $PREFIX/bin/kmagent"
            fi
            for unit in kmagent.service kmagent-check.service kmagent-check.timer; do
                put_service 644 "systemd/$unit" "$units/$unit"
            done
            ;;
        openrc | procd | sysv) put_service 755 "$init/kmagent" /etc/init.d/kmagent ;;
    esac
    put_exec_paths
}

# The units let nothing be executed where the agent's user can write. Where an operator keeps programs there, they may
# be; a directory, since a file that is replaced would be left out.
put_exec_paths() {
    paths=$(exec_paths) || return 0
    if [ "$init" != systemd ] || [ -z "$paths" ]; then return 0; fi
    {
        echo "# What install.sh found to be executed here: the agent, or the collector of its settings."
        echo "[Service]"
        printf '%s\n' "$paths" | sed 's/%/%%/g;s/.*/ExecPaths="-&"/'
        # Or systemd would let it be written in there.
        printf '%s\n' "$paths" | sed -n 's/%/%%/g;s:^/home/.*:ReadOnlyPaths="-&":p'
    } >"$stage/exec-paths" || die 73 "cannot write $stage"
    put 644 "$stage/exec-paths" /etc/systemd/system/kmagent.service.d/exec-paths.conf
    put 644 "$stage/exec-paths" /etc/systemd/system/kmagent-check.service.d/exec-paths.conf
}

exec_paths() {
    for program in "$PREFIX/bin/kmagent" "$PREFIX/lib/kmagent/kmagent-collector" "$(setting collector)" \
        "$(variable_for_service KM_COLLECTOR)" "$(running_collector)"; do
        [ -n "$DESTDIR" ] || program=$(readlink -f "$program" 2>/dev/null) || continue
        case $program in
            *[\"\\]* | *"$newline"*) ;;
            "$state"/* | /run/kmagent/* | /tmp/* | /var/tmp/* | /dev/shm/* | /home/*) printf '%s\n' "${program%/*}" ;;
        esac
    done | sort -u
}

variable_for_service() {
    for file in /etc/default/kmagent /etc/sysconfig/kmagent; do
        if [ -f "$DESTDIR$file" ]; then sed -n "s/^$1=//p" "$DESTDIR$file"; fi
    done | tail -n 1 | sed "s/^'\(.*\)'\$/\1/;s/^\"\(.*\)\"\$/\1/"
}

# Whatever tells the agent of it.
running_collector() {
    [ -z "$DESTDIR" ] || return 0
    pid=$(agent_says | sed -n '/"collector": {/,/}/s/ *"pid": \([0-9]*\),*$/\1/p')
    readlink "/proc/${pid:-none}/exe" 2>/dev/null | sed 's/ (deleted)$//'
}

# For every service manager the same words. What they print is shown only when they fail.
service() {
    case $init:$1 in
        systemd:reload) if is_live; then quietly systemctl daemon-reload; fi ;;
        systemd:enable) quietly systemctl enable kmagent.service ;;
        systemd:disable)
            quietly systemctl disable kmagent.service kmagent-check.timer && { ! is_live || quietly systemctl stop kmagent-check.timer; }
            ;;
        systemd:*) quietly systemctl "$1" kmagent.service ;;
        openrc:enable) quietly rc-update add kmagent default ;;
        # For its start, what has crashed still runs.
        openrc:start) quietly rc-service kmagent restart ;;
        openrc:disable) if [ -h /etc/runlevels/default/kmagent ]; then quietly rc-update del kmagent default; fi ;;
        sysv:enable) enable_sysv ;;
        sysv:disable) disable_sysv ;;
        *:reload) ;;
        # It does not wait for the end, which a drain delays for up to stop-timeout.
        procd:stop) quietly /etc/init.d/kmagent stop && wait_for_end ;;
        procd:restart) service stop && service start ;;
        openrc:*) quietly rc-service kmagent "$1" ;;
        procd:* | sysv:*) quietly /etc/init.d/kmagent "$1" ;;
    esac
}
# Into a file, not a pipe that a daemon might keep open; and as at boot: what is in our environment would outrank the
# settings until then. Without root's terminal, since a script may start the agent as its own user. What the undoing
# starts is not to ignore what ends it.
quietly() {
    if have setsid; then set -- setsid "$@"; fi
    (trap - PIPE TERM && exec env -i "PATH=$PATH" "$@") </dev/null >"$stage/output" 2>&1 && return 0
    result=$?
    cat "$stage/output" >&2
    return "$result"
}

enable_sysv() {
    if have update-rc.d; then
        quietly update-rc.d kmagent defaults
    elif have chkconfig; then
        quietly chkconfig --add kmagent
    else
        sysv_links | while read -r link; do
            if [ -d "${link%/*}" ]; then ln -sf ../init.d/kmagent "$link" || exit 1; fi
        done
    fi
}
disable_sysv() {
    if have update-rc.d; then
        # It needs the script to be there, or -f.
        quietly update-rc.d -f kmagent remove
    elif have chkconfig; then
        quietly chkconfig --del kmagent
    else
        sysv_links | while read -r link; do if [ -h "$link" ]; then rm -f "$link" || exit 1; fi; done
    fi
}
# A busybox init has one directory, whose S scripts rcS runs.
sysv_links() {
    if grep -q 'init\.d/S' /etc/init.d/rcS 2>/dev/null; then echo /etc/init.d/S90kmagent; fi
    for level in 2 3 4 5; do echo "/etc/rc$level.d/S90kmagent"; done
    for level in 0 1 6; do echo "/etc/rc$level.d/K10kmagent"; done
}

# Of systemd only.
is_enabled() { [ -z "$DESTDIR" ] && [ "$init" = systemd ] && systemctl --quiet is-enabled "$1" 2>/dev/null; }

# What the agent that runs says of itself, if one does. Its environment is empty: only its settings file counts, as for
# the service.
agent_says() { env -i "PATH=$PATH" "$DESTDIR$PREFIX/bin/kmagent" status --json 2>/dev/null; }
collector_state() { agent_says | sed -n '/"collector": {/,/}/s/.*"state": "\(.*\)".*/\1/p'; }

# running, stopped (on purpose) or failed, as the service manager sees it.
service_state() {
    if [ "$init" = systemd ]; then
        case $(systemctl is-active kmagent.service 2>/dev/null || :) in
            inactive | unknown | '') echo stopped ;;
            failed) echo failed ;;
            *) echo running ;;
        esac
    else
        status=0
        service status >/dev/null 2>&1 || status=$?
        case $init:$status in
            *:0) echo running ;;
            # The LSB's word for dead with a pid file.
            sysv:1) echo failed ;;
            # 3 is stopped. Others are: crashed, not supervised, no answer.
            openrc:[!3] | openrc:??*) echo failed ;;
            *) echo stopped ;;
        esac
    fi
}

# Longer than the 90 s after which procd kills.
wait_for_end() {
    tries=0
    while agent_says >/dev/null; do
        if [ "$tries" -ge 100 ]; then warn "the agent does not exit" && return 1; fi
        tries=$((tries + 1))
        sleep 1
    done
}

# Until the agent answers; and, if $1 is proved, until its collector has passed its probation. 60 s, so that a slow host
# has time.
wait_for_agent() {
    tries=0 crashes=0 seen='' answered=''
    while [ "$tries" -lt 60 ]; do
        seen=$(collector_state || :)
        answered=$answered$seen
        case $1:$seen in
            *:) ;;
            any:* | *:running) return 0 ;;
            *:backoff) crashes=$((crashes + 1)) ;;
            # It waits for the API's config.
            *:stopped) [ -e "$(setting config)" ] || return 0 ;;
        esac
        # One end may be an accident.
        if [ "$crashes" -ge 3 ]; then break; fi
        tries=$((tries + 1))
        sleep 1
    done
    if [ -z "$answered" ]; then warn "no agent answers" && return 1; fi
    # A probation may be longer than this.
    case $seen in
        '') warn "the agent does not stay up" && return 1 ;;
        backoff) warn "the collector does not stay up" && return 1 ;;
    esac
}

explain_failure() {
    if [ "$init" = systemd ] && have journalctl; then journalctl -u kmagent.service -n 10 --no-pager -o cat >&2 2>/dev/null || :; fi
}

# ---- settings

terminal='' # its state while it does not show what is typed

# ask QUESTION: the answer is in $answer; with a second word it is not shown.
ask() {
    if [ $# -eq 2 ]; then
        # First, or the first letters of a fast typist show.
        terminal=$(stty -g)
        stty -echo
    fi
    printf '%s' "$1" >&2
    IFS= read -r answer || :
    if [ $# -eq 2 ]; then
        stty "$terminal"
        terminal=''
        echo >&2
    fi
}

one_line() { case $2 in *"$newline"*) die 64 "$1 must be a single line" ;; esac; }

# As a YAML scalar that comes back byte for byte. What YAML takes for a line break, or refuses, is escaped; here and
# below a text goes by a here-document, since arguments show in ps.
in_yaml() {
    sed -e 's/[\\"]/\\&/g' -e "s/$(printf '\r')/\\\\r/g" -e "s/$(printf '\302\205')/\\\\N/g" \
        -e "s/$(printf '\342\200\250')/\\\\L/g" -e "s/$(printf '\342\200\251')/\\\\P/g" -e "s/$(printf '\357\273\277')/\\\\uFEFF/g" \
        -e 's/^/"/' -e 's/$/"/' <<EOF
$1
EOF
}

# The template, with what the environment sets.
make_settings() {
    while IFS= read -r line; do
        name=''
        case $line in
            '#'[a-z]*:*)
                name=${line%%:*}
                name=${name#?}
                ;;
        esac
        case $name in
            '' | api-key | api-key-file | config | state-dir | run-dir) value='' ;;
            *)
                variable=KM_$(printf '%s' "$name" | tr 'a-z-' 'A-Z_') || return 1
                eval "value=\${$variable-}"
                one_line "$variable" "$value"
                ;;
        esac
        if [ -z "$value" ]; then
            printf '%s\n' "$line"
        else
            { printf '%s: ' "$name" && in_yaml "$value"; } || return 1
        fi
    done <"$here/etc/kmagent/agent.yaml"
}

# In $stage: agent.yaml, api-key and config.yaml as they will be; $fresh names those that are not there yet.
fresh=''
stage_settings() {
    for variable in KM_AGENT_CONFIG KM_COLLECTOR_CONFIG KM_STATE_DIR KM_RUN_DIR; do
        eval "value=\${$variable-}"
        [ -z "$value" ] || die 64 "$variable cannot be set here, since the services use fixed directories: unset it"
    done
    vet agent.yaml api-key policy.yaml .installed
    if [ -f "$DESTDIR$etc/policy.yaml" ]; then
        cp "$DESTDIR$etc/policy.yaml" "$stage/policy.yaml" || die 73 "cannot copy $etc/policy.yaml"
    fi
    if [ -f "$DESTDIR$etc/agent.yaml" ]; then
        say "keeping $etc/agent.yaml"
        cp "$DESTDIR$etc/agent.yaml" "$stage/agent.yaml" || die 73 "cannot copy $etc/agent.yaml"
    else
        trim_endpoint "${KM_COLLECTOR_ENDPOINT-}"
        if [ -z "$endpoint" ] && is_asking; then
            until ask "Collector endpoint, or Enter for https://otel.kloudmate.com:4318: " && trim_endpoint "$answer" &&
                is_endpoint "$endpoint"; do warn "$not_an_endpoint"; done
        fi
        is_endpoint "$endpoint" || die 64 "KM_COLLECTOR_ENDPOINT: $not_an_endpoint"
        KM_COLLECTOR_ENDPOINT=$endpoint
        make_settings >"$stage/agent.yaml" || die 73 "cannot write $stage/agent.yaml"
        fresh="$fresh agent.yaml"
    fi
    if [ -s "$DESTDIR$etc/api-key" ]; then
        if [ -n "$api_key$api_key_file" ]; then say "keeping the key in $etc/api-key; the given one is ignored"; fi
        cp "$DESTDIR$etc/api-key" "$stage/api-key" || die 73 "cannot copy $etc/api-key"
    else
        stage_key
        if [ -s "$stage/api-key" ] || [ ! -f "$DESTDIR$etc/api-key" ]; then fresh="$fresh api-key"; fi
    fi
    # A host that has been installed before may be without one on purpose, waiting for the API's.
    if [ ! -e "$DESTDIR$etc/config.yaml" ] && [ ! -h "$DESTDIR$etc/config.yaml" ] && [ ! -f "$DESTDIR$manifest" ]; then
        cp "$here/etc/kmagent/config.yaml" "$stage/config.yaml" || die 73 "cannot write $stage/config.yaml"
        fresh="$fresh config.yaml"
    fi
    chmod 600 "$stage"/*
}

# A collector's exporter may take one without a scheme, host:4317.
trim_endpoint() { endpoint=$(printf '%s' "$1" | sed 's/^[[:blank:]]*//;s/[[:blank:]]*$//'); }
not_an_endpoint='it has to begin with http:// or https://, or be HOST:PORT'
is_endpoint() { case $1 in http://?* | https://?* | grpc://?* | grpcs://?* | unix:*) ;; *://*) return 1 ;; esac; }

is_asking() { [ -t 0 ] && [ -z "$DESTDIR" ]; }

key_from='' # what the agent's messages call it
stage_key() {
    key_from=KM_API_KEY
    if [ -n "${SUDO_COMMAND-}" ] && [ -n "${KM_API_KEY-}" ]; then
        warn "a variable on sudo's command line is logged: if KM_API_KEY was there, ask for another key, and use --api-key-file -"
    fi
    if [ -n "$api_key_file" ]; then
        key_from=$api_key_file
        cat -- "$api_key_file" >"$stage/api-key" || die 64 "cannot read the API key from $api_key_file"
        return 0
    fi
    if [ -z "$api_key" ] && is_asking && have stty && ! grep -q '^api-key' "$stage/agent.yaml"; then
        key_from='what was typed'
        while :; do
            ask "API key, or Enter for none yet (it is not shown): " hidden
            api_key=$answer
            write_key
            try_settings
            if ! complaints | grep -F ": $key_from: " >&2; then return 0; fi
        done
    fi
    write_key
}
write_key() {
    if [ -n "$api_key" ]; then
        cat >"$stage/api-key" <<EOF || die 73 "cannot write $stage/api-key"
$api_key
EOF
    else
        : >"$stage/api-key"
    fi
}

# What the new agent makes of the settings, before anything is replaced.
check_settings() {
    read_settings
    if ! is_of_1x || [ -z "$(local_because)" ]; then return 0; fi
    # The API of 1.x was the vendor's, whatever the endpoint; ours is the vendor's only if the endpoint is. Without this
    # line the host would no longer be managed.
    say "config checks stay at the API of the KloudMate Agent 1.x: adding update-endpoint to $etc/agent.yaml"
    {
        printf '\n# Added by install.sh: the default of the KloudMate Agent 1.x, whose settings these are.\nupdate-endpoint: ' &&
            in_yaml "${KM_UPDATE_ENDPOINT:-$api_of_1x}"
    } >>"$stage/agent.yaml" || die 73 "cannot write $stage/agent.yaml"
    read_settings
}
# Of a host with the package, or never installed by this, settings as the package of 1.x wrote them: key and endpoint,
# and no name that 1.x did not have.
is_of_1x() {
    if [ -n "$DESTDIR" ] || [ ! -f "$etc/agent.yaml" ] || [ -h "$etc/agent.yaml" ]; then return 1; fi
    if [ -z "$package" ] && { [ -n "$old_init" ] || [ -f "$kept" ]; }; then return 1; fi
    names=$(printf '%s\n' "$settings" | sed -n "s:^\([a-z-]*\) *= .*(file $stage/agent.yaml\:[0-9]*)\$:\1:p")
    printf '%s\n' "$names" | grep -qx api-key && printf '%s\n' "$names" | grep -qx collector-endpoint &&
        ! printf '%s\n' "$names" | grep -qvx -e api-key -e collector-endpoint -e config -e config-check-interval \
            -e docker-mode -e docker-endpoint
}
# Why it asks no API, if it asks none.
local_because() { printf '%s\n' "$settings" | sed -n 's/^update-endpoint *= (none) *(local mode: \(.*\))$/\1/p'; }
read_settings() {
    try_settings
    complaints >&2
    [ "$code" -eq 0 ] || die 78 "this release does not accept the settings; nothing was changed"
}
try_settings() {
    code=0
    settings=$(env -i "PATH=$PATH" "$here/bin/kmagent" --agent-config "$stage/agent.yaml" --print-settings 2>&1) || code=$?
}
# With the real names instead of those of the copies.
complaints() {
    from=$(printf '%s' "${key_from:-$etc/api-key}" | sed 's/[\\&;]/\\&/g')
    printf '%s\n' "$settings" |
        sed -n "s;[^ ]*/\.kmagent-install/api-key:;$from:;g;s;[^ ]*/\.kmagent-install/;$etc/;g;/^kmagent: /p"
}
# A variable that is nearly a setting's is ignored. By its name alone: the value may be a key.
check_variables() {
    env | sed -n 's/^\(KM_[A-Za-z0-9_]*\)=.*/\1/p' | while IFS= read -r variable; do
        env -i "PATH=$PATH" "KM_COLLECTOR_CONFIG=$stage/config.yaml" "$variable=x" "$here/bin/kmagent" \
            --agent-config "$stage/agent.yaml" --print-settings 2>&1 >/dev/null |
            sed -n "s/^kmagent: warning: \($variable is .*\)/install.sh: \1/p" >&2
    done
}
# Its value; nothing if it has none, which is shown in parentheses.
setting() { printf '%s\n' "$settings" | sed -n "s:^$1  *= \([^(].*[^ ]\)  *(.*)\$:\1:p"; }

# accepts COLLECTOR: whether it accepts the active config, with the site's overlay.
accepts() {
    program=$1
    shift
    # By a descriptor, since the account may not reach into the directory that the tarball was unpacked in.
    as_account env -i "PATH=$PATH" KM_API_KEY=key "KM_COLLECTOR_ENDPOINT=$(setting collector-endpoint)" \
        "KM_DOCKER_ENDPOINT=$(setting docker-endpoint)" "KM_HOST_NAME=$(uname -n)" KM_AGENT_VERSION=0 /proc/self/fd/9 "$@" 9<"$program" 2>&1
}

# With the account's rights: a config is the API's, and what it names is opened by who validates it. Without root's
# terminal: another process of the account could trace this one, and type there. A system without such programs says 77.
# Before the account is there, the config is root's own.
as_account() {
    if ! has_user; then
        "$@"
    elif ! have setsid; then
        return 77
    elif have setpriv && setpriv --help 2>&1 | grep -q -e --reuid; then
        setsid setpriv --reuid="$account" --regid="$account" --init-groups "$@" </dev/null
    elif have su; then
        # shellcheck disable=SC2016 # for that shell
        setsid su -s /bin/sh -c 'exec "$@"' -- "$account" sh "$@" </dev/null
    else
        return 77
    fi
}

# A collector that rejects the active config would leave the host with none, as the generations that it would roll back
# to would be rejected too.
check_collector() {
    new=$here/lib/kmagent/kmagent-collector
    config=$(setting config)
    overlay=$(setting local-config)
    args=$(setting collector-args)
    if [ -n "$DESTDIR" ] || [ ! -f "$new" ] || [ ! -f "$config" ]; then return 0; fi
    # Another one is used.
    [ -z "$(setting collector)" ] || return 0
    say "checking $config with the collector of this release"
    set -- validate "--config=$config"
    if [ -f "$overlay" ]; then set -- "$@" "--config=$overlay"; fi
    case $args in *\"*) warn "cannot check $config: collector-args has blanks in it" && return 0 ;; esac
    set -f
    # shellcheck disable=SC2086 # it has words
    set -- "$@" $args
    set +f
    code=0
    complaint=$(accepts "$new" "$@") || code=$?
    if [ "$code" -eq 0 ] || [ "$code" -eq 77 ]; then return 0; fi
    # The service may read more than the account alone.
    case $complaint in *'permission denied'*) warn "cannot check $config: $account may not read what it names" && return 0 ;; esac
    if [ -x "$PREFIX/lib/kmagent/kmagent-collector" ] && ! accepts "$PREFIX/lib/kmagent/kmagent-collector" "$@" >/dev/null; then
        warn "the collector rejects $config, as the previous one did"
        return 0
    fi
    printf '%s\n' "$complaint" | tail -n 5 >&2
    case $complaint in
        *' unknown type: '*)
            die 65 "$config names components that the collector of this tarball does not have; nothing was changed: use the" \
                "tarball -edge, which has those of 1.x's default config, or -full, or -agent-only with a collector of your own"
            ;;
    esac
    die 65 "the collector of this release rejects the active config $config; nothing was changed: correct it, or use the" \
        "tarball without a collector (-agent-only)"
}

# Where the agent could not replace its config, the API would never change it: elsewhere than in the state directory,
# unless both the unit and the owner of the directory allow it. An upgrade is not the time to refuse that.
check_place() {
    if [ -n "$DESTDIR$old_init" ]; then return 0; fi
    config=$(variable_for_service KM_COLLECTOR_CONFIG)
    config=${config:-$(setting config)}
    if [ "$config" = "$etc/config.yaml" ] && [ ! -h "$config" ]; then return 0; fi
    place=$(readlink -f "$config") || place=$config
    dir=${place%/*} refused=''
    case $dir/ in "$state"/* | "$etc/state"/*) return 0 ;; esac
    if [ "$init" = systemd ] && ! is_left_open "$dir"; then refused="the unit allows it to write to $state and $etc alone"; fi
    if ! has_user; then
        refused=${refused:-"the user $account is not there yet, so it cannot own $dir"}
    else
        code=0
        as_account test -w "$dir" || code=$?
        case $code in 0 | 77) ;; *) refused=${refused:-"the user $account may not write to $dir"} ;; esac
    fi
    if [ -z "$refused" ]; then return 0; fi
    warn "the agent could not replace its config $place: $refused; nothing was changed. Either move the config to its default" \
        "place, and remove \`config\` from $etc/agent.yaml:"
    printf '%s\n' "    mv '$place' $etc/config.yaml && sed -i '/^config *:/d' $etc/agent.yaml" >&2
    if [ "$dir" != "$etc" ]; then
        warn "or let it write there:"
        if [ "$init" = systemd ] && ! is_left_open "$dir"; then
            printf '%s\n' "    mkdir -p /etc/systemd/system/kmagent.service.d" \
                "    printf '[Service]\nReadWritePaths=%s\n' '$dir' >/etc/systemd/system/kmagent.service.d/config.conf" >&2
        fi
        has_user || printf '%s\n' "    useradd -r -U -M -d $nowhere -s /usr/sbin/nologin $account" >&2
        printf '%s\n' "    chown $account: '$dir' '$place'" >&2
    fi
    die 78 "then run install.sh again"
}
# Whether a drop-in lets the service write to a directory: it names it, or one above it, or protects nothing.
is_left_open() {
    case $1/ in "$etc"/*) return 0 ;; esac
    for drop_in in /etc/systemd/system/kmagent.service.d/*.conf; do
        if [ ! -f "$drop_in" ]; then continue; fi
        if grep -qix 'ProtectSystem=\(no\|false\|off\|0\)' "$drop_in"; then return 0; fi
        for open in $(sed -n 's/^ReadWritePaths=//p' "$drop_in" | tr -d \"); do
            open=${open#[-+]}
            case $1/ in "${open%/}"/*) return 0 ;; esac
        done
    done
    return 1
}

# kind PATH: what it is, how many names it has, whose it is: "- 1 0". stat(1) is not everywhere.
kind() {
    # shellcheck disable=SC2012
    ls -ldn "$1" 2>/dev/null | sed 's/^\(.\)[^ ]* *\([0-9]*\) *\([0-9]*\) .*/\1 \2 \3/'
}
owner_of() {
    # shellcheck disable=SC2012
    ls -ldn "$1" | sed 's/^[^ ]*  *[0-9]*  *\([0-9]*\)  *\([0-9]*\).*/\1:\2/'
}
# As chmod(1) takes it.
mode_of() {
    # shellcheck disable=SC2012
    ls -ld "$1" | sed 's/^.\(...\)\(...\)\(...\).*/u=\1,g=\2,o=\3/;s/-//g;s/[st]/x&/g;y/ST/st/'
}
is_the_account_s() { has_user && [ "$(owner_of "$1" | cut -d : -f 1)" = "$(id -u "$account")" ]; }

# take DIRECTORY: from the agent's user, and from all whom its mode lets write: from then on only root changes a name in
# it. An agent that runs still reads there; what it wants to write it tries again. Only where the directory above is
# root's. First the owner: an owner can change the mode back. The mode of the group limits an ACL, too.
take() {
    taken=''
    if [ -n "$DESTDIR" ] || [ ! -d "$1" ] || [ -h "$1" ]; then return 0; fi
    own_package_s "$1"
    owner=$(owner_of "$1") mode=$(mode_of "$1")
    if is_the_account_s "$1"; then
        say "changing the owner of $1 to root"
    else
        case ${owner%:*}:${mode#*,} in
            0:*w*) say "changing the mode of $1: only root may write there" ;;
            *) return 0 ;;
        esac
    fi
    taken=yes
    on_failure "chown -h $owner '$1' && chmod $mode '$1'"
    if [ "${owner%:*}" != 0 ]; then chown -h "0:$account" "$1" || die 73 "cannot change the owner of $1 to root"; fi
    chmod u=rwx,g=rx,o-w "$1" || die 73 "cannot change the mode of $1"
}

# set_apart NAME, in a directory that is root's by now: a directory that another user has put there is neither in the
# way nor gone down into; whoever has it open could make names in it lead elsewhere.
set_apart() {
    if [ ! -d "$1" ] || [ -h "$1" ]; then return 0; fi
    apart=$(mktemp -d "${1%/*}/replaced.XXXXXX") || die 73 "cannot create a directory in ${1%/*}"
    on_failure "rmdir '$apart'"
    say "moving the directory $1 to $apart, since a file belongs there"
    on_failure "mv '$apart/${1##*/}' '$1'"
    mv "$1" "$apart/" || die 73 "cannot move $1"
}
# The names that files here have for a time.
set_apart_planted() {
    if [ -n "$DESTDIR" ] || [ ! -d "$etc" ] || ! is_root_s "$etc"; then return 0; fi
    for place in "$etc"/.*.kmagent-old "$etc"/.*.kmagent-new; do
        case $place in *"'"* | *"$newline"*) ;; *) set_apart "$place" ;; esac
    done
}

# Some packages of 1.x give the directory and its files to whatever user they were built by.
own_package_s() {
    if [ -z "$package_lives" ]; then return 0; fi
    for file in "$1" "$1/agent.yaml" "$1/config.yaml" "$1/api-key"; do
        if [ ! -e "$file" ] && [ ! -h "$file" ]; then continue; fi
        owner=$(owner_of "$file")
        case ${owner%:*} in 0) continue ;; esac
        if is_the_account_s "$file"; then continue; fi
        say "changing the owner of $file, which the package $package_name had, to root"
        on_failure "chown -h $owner '$file'"
        chown -h 0:0 "$file" || die 73 "cannot change the owner of $file to root"
    done
}

# vet NAME...: refuses what the agent's user may have put there for root to read or replace. It may be missing, a file
# without a second name, or a link of root's.
vet() {
    if [ -n "$DESTDIR" ]; then return 0; fi
    for name; do
        case $(kind "$etc/$name") in
            '' | '- 1 '* | 'l '*' 0') ;;
            *) die 78 "$etc/$name is a link, has a second name or is no file, and another user may have put it there:" \
                "remove it; nothing was changed" ;;
        esac
    done
}

# put_setting NAME: $stage/NAME in its place, root's, for the agent to read. A copy, since the agent's user may hold the
# old file open; that keeps a second name until all is well.
put_setting() {
    place=$DESTDIR$etc/$1
    if [ -h "$place" ]; then return 0; fi
    if [ -n "$DESTDIR" ]; then
        owner=$(owner_of "$stage/$1")
    elif is_root_s "$etc"; then
        owner=0:$(id -g "$account")
    else
        # An operator's layout.
        if [ -s "$place" ]; then return 0; fi
        owner=$(owner_of "$etc")
    fi
    if [ ! -e "$place" ]; then
        say "writing $etc/$1"
        on_failure "rm -f '$place'"
    elif ! same "$stage/$1" "$place"; then
        say "writing $etc/$1"
        keep_old "$etc/$1"
    elif [ "$(owner_of "$place") $(mode_of "$place")" = "$owner u=rw,g=r,o=" ]; then
        return 0
    else
        say "changing the owner of $etc/$1 to root, and its group to $account"
        if [ "$1" = agent.yaml ]; then name_programs "$place"; fi
        keep_old "$etc/$1"
    fi
    if [ -z "$DESTDIR" ]; then chown "$owner" "$stage/$1" || die 73 "cannot change the owner of $1"; fi
    { chmod 640 "$stage/$1" && mv -f "$stage/$1" "$DESTDIR$etc/$1"; } || die 73 "cannot write $place"
}

# What was the agent's user's to write, and is root's from now on.
name_programs() {
    if [ -n "$DESTDIR" ] || ! is_the_account_s "$1"; then return 0; fi
    for name in collector collector-args on-change; do
        value=$(setting "$name")
        if [ -n "$value" ]; then say "$etc/agent.yaml sets $name, which root runs: check that it is yours: $value"; fi
    done
}

# keep_old FILE: under a second name.
keep_old() {
    place=$DESTDIR$1 old=$DESTDIR$(beside "$1" old)
    note beside "$1"
    rm -f "$old" || die 73 "cannot remove $old"
    on_failure "restore '$old' '$place'"
    aside="$aside $1"
    ln "$place" "$old" 2>/dev/null || cp -p "$place" "$old" || die 73 "cannot save $place as $old"
}

place_settings() {
    made='' making='kept dir'
    find_readers
    make_dirs "$etc"
    make_dirs "${state%/*}"
    own_directory "$etc" "0:$account" u=rwx,g=rx,o=
    drop_links
    for file in agent.yaml api-key policy.yaml; do
        if [ -e "$stage/$file" ]; then put_setting "$file"; fi
    done
    if [ "$init" = procd ]; then agents=$etc/state; else agents=$state; fi
    target=$agents/config.yaml
    for dir in "$state" "$agents"; do
        if [ ! -d "$DESTDIR$dir" ]; then
            # With what an agent has left in there by then.
            { on_failure "remove_state '$dir'" && mkdir -m 700 "$DESTDIR$dir"; } || die 73 "cannot create the directory $DESTDIR$dir"
        fi
    done
    link_config
    for dir in "$state" "$agents"; do
        if [ -n "$DESTDIR" ]; then continue; fi
        if is_root_s "$dir" || is_the_account_s "$dir"; then close_directory "$dir"; fi
        if is_root_s "$dir"; then give "$dir"; fi
    done
}

# own_directory PATH OWNER MODE: not one that an operator has given to another user.
own_directory() {
    owner=$(owner_of "$DESTDIR$1") mode=$(mode_of "$DESTDIR$1")
    if [ -z "$owner" ] || [ -z "$mode" ]; then die 73 "cannot look at $1"; fi
    if [ -n "$DESTDIR" ]; then
        if [ "$mode" != "$3" ]; then on_failure "chmod $mode '$DESTDIR$1'" && chmod "$3" "$DESTDIR$1"; fi
        return 0
    fi
    if [ "${owner%:*}" != 0 ]; then return 0; fi
    if [ "$readers" = yes ]; then set -- "$1" "$2" "$mode"; fi
    if [ "$owner $mode" = "0:$(id -g "$account") $3" ]; then return 0; fi
    say "changing the owner of $1 to root, and its group to $account"
    # What was made for this goes anyway.
    case " $made" in *" $1 "*) ;; *) on_failure "chown -h $owner '$1' && chmod $mode '$1'" ;; esac
    { chmod "$3" "$1" && chown -h "$2" "$1"; } || die 73 "cannot change the owner of $1"
}

# close_directory PATH: the agent's own, in a directory of root's, is nobody else's to read or write.
close_directory() {
    mode=$(mode_of "$1")
    if [ -h "$1" ] || [ "$mode" = u=rwx,g=,o= ]; then return 0; fi
    say "changing the mode of $1 to 0700"
    on_failure "chmod $mode '$1'"
    chmod u=rwx,g=,o= "$1" || die 73 "cannot change the mode of $1"
}

# In root's directory links are followed: none may be the agent's user's.
drop_links() {
    if [ -n "$DESTDIR" ]; then return 0; fi
    for place in "$etc"/* "$etc"/.[!.]*; do
        case $(kind "$place") in
            'l '*' 0' | [!l]* | '') ;;
            l*)
                case $place in *"'"* | *"$newline"*) die 78 "$place is a link of another user's: remove it" ;; esac
                say "removing $place, a link to $(readlink "$place") that is not root's"
                set_aside "$place"
                ;;
        esac
    done
}

# give DIRECTORY, which is new, or root's, who has then run the agent: to the agent's user with all that root made in
# there, the innermost first. What is that user's already is not looked into; what has a second name may be something
# else of root's.
give() {
    for entry in "$1"/* "$1"/.[!.]*; do
        case $entry in *"'"* | *"$newline"*) continue ;; esac
        case $(kind "$entry") in
            'd '*' 0') give "$entry" ;;
            '- 1 0') give_one "$entry" ;;
        esac
    done
    give_one "$1"
}
give_one() {
    say "changing the owner of $1 to $account"
    on_failure "chown -h $(owner_of "$1") '$1'"
    chown -h "$account:$account" "$1" || die 73 "cannot change the owner of $1 to $account"
}

# The name in root's directory leads to where the agent may replace its config. Of a file there the content goes along,
# unless it has a second name: then it may be a file that the agent's user must not read.
link_config() {
    place=$DESTDIR$etc/config.yaml
    if [ -n "$readers" ] || ! is_root_s "$etc" || ! { is_root_s "$agents" || is_the_account_s "$agents"; }; then
        if [ -e "$stage/config.yaml" ]; then put_fresh_config; fi
        return 0
    fi
    case $(kind "$place") in
        l*) return 0 ;;
        d*) warn "$etc/config.yaml is a directory" && return 0 ;;
        '- 1 '*)
            cp -p "$place" "$stage/config.yaml" || die 73 "cannot copy $place"
            say "moving $etc/config.yaml to $target; a link leads there"
            put_config
            keep_old "$etc/config.yaml"
            ;;
        '')
            if [ -e "$stage/config.yaml" ]; then say "writing $etc/config.yaml" && put_config; fi
            on_failure "rm -f '$place'"
            ;;
        *)
            say "removing $etc/config.yaml, which has a second name or is no file: the newest confirmed config is used"
            set_aside "$etc/config.yaml"
            ;;
    esac
    new=$DESTDIR$(beside "$etc/config.yaml" new)
    note beside "$etc/config.yaml"
    rm -f "$new"
    on_failure "rm -f '$new'"
    { ln -s "$target" "$new" && mv -f "$new" "$place"; } || die 73 "cannot make the link $place"
    linked=yes
}
is_root_s() { [ -n "$DESTDIR" ] || [ "$(owner_of "$1" | cut -d : -f 1)" = 0 ]; }

# An operator has given the directory to a user who may replace the config there.
put_fresh_config() {
    say "writing $etc/config.yaml"
    on_failure "rm -f '$place'"
    { chown "$(owner_of "$etc")" "$stage/config.yaml" && mv -f "$stage/config.yaml" "$place"; } || die 73 "cannot write $place"
}

# $stage/config.yaml becomes $target. The directory is taken meanwhile, or the name could be made to lead elsewhere;
# what lies there is no config yet, as no link leads to it.
put_config() {
    dir=$DESTDIR$agents copy=$DESTDIR$(beside "$target" new)
    take "$dir"
    set_apart "$DESTDIR$target"
    set_apart "$copy"
    rm -f "$copy" "$DESTDIR$target" || die 73 "cannot remove $target"
    on_failure "rm -f '$copy' '$DESTDIR$target'"
    # To no name that is there already, and through no link.
    (umask 077 && set -C && cat "$stage/config.yaml" >"$copy") || die 73 "cannot write $copy"
    chmod "$(mode_of "$stage/config.yaml" | tr -d st)" "$copy" || die 73 "cannot change the mode of $copy"
    sync "$copy" 2>/dev/null || die 73 "cannot sync $copy to the disk"
    mv -f "$copy" "$DESTDIR$target" || die 73 "cannot write $DESTDIR$target"
    # Else it goes with the directory.
    if [ -n "$taken" ]; then
        say "changing the owner of $agents to $account"
        { chmod u=rwx,g=,o= "$dir" && chown -h "$account:$account" "$DESTDIR$target" "$dir"; } ||
            die 73 "cannot change the owner of $dir"
    fi
}

# Another service may read the config, of a host where cron or a timer does the checks, and would not if it were moved.
find_readers() {
    readers='' place=$etc/config.yaml
    if [ -n "$DESTDIR" ] || [ -z "$old_init" ] || [ "$action" != none ] || agent_says >/dev/null; then return 0; fi
    # shellcheck disable=SC2012
    case $(kind "$place"):$(ls -ld "$place" 2>/dev/null) in
        '- 1 '*:???????r* | '- 1 '*:??????????+*) readers=yes ;;
        '- 1 '*:????r*) case $(owner_of "$place") in *":$(id -g "$account")" | *:0) ;; *) readers=yes ;; esac ;;
    esac
    if [ -n "$readers" ]; then
        say "keeping $etc/config.yaml where it is, since others may read it; an agent could not replace it there"
    fi
}
note_settings() {
    already=$(noted_kept)
    {
        [ -z "$already" ] || printf '%s\n' "$already"
        for dir in $first_made $made; do echo "dir $dir"; done
        printf '%s' "$accounts"
    } | sort -u >"$stage/installed"
    if [ ! -s "$stage/installed" ] || { [ -f "$DESTDIR$kept" ] && same "$stage/installed" "$DESTDIR$kept" && is_root_s "$kept"; }; then
        return 0
    fi
    # The agent's user could go on writing an old one.
    if [ -f "$DESTDIR$kept" ]; then keep_old "$kept"; else on_failure "rm -f '$DESTDIR$kept'"; fi
    { chmod 644 "$stage/installed" && mv -f "$stage/installed" "$DESTDIR$kept"; } || die 73 "cannot write $DESTDIR$kept"
}

# ---- the package of the KloudMate Agent 1.x. When it is removed or updated, its scripts stop and disable
# kmagent.service and delete /etc/kmagent/config.yaml, whoever has put them there by then. So this installation takes
# the package over: its files go like those of an older release, and come back with a roll back; the package manager
# then forgets it, without running those scripts or touching a file.

package=''       # whose it is: deb or rpm
package_lives='' # whether it is installed; of one that was removed an entry may be left
package_name=''
package_version=''
package_files='' # those that are not ours, too

find_package() {
    if [ -n "$DESTDIR" ]; then return 0; fi
    # Its status and version. What was removed may still have its postrm, which a purge runs.
    if have dpkg-query; then
        package_name=$(dpkg-query -S /usr/bin/kmagent 2>/dev/null | sed -n 's;^\([a-z0-9.+-]*\)[:a-z0-9]*: /usr/bin/kmagent$;\1;p')
        package_name=${package_name:-kmagent}
        # shellcheck disable=SC2016 # for dpkg-query
        found=$(dpkg-query -W -f '${Status} ${Version}' "$package_name" 2>/dev/null) && package=deb
    fi
    case ${found-} in '' | *' not-installed '*) package='' ;; esac
    if [ -z "$package" ] && have rpm; then
        for query in '-qf /usr/bin/kmagent' '-q kmagent'; do
            # shellcheck disable=SC2086 # two words
            found=$(rpm $query --qf '%{NAME} installed %{VERSION}\n' 2>/dev/null | head -n 1)
            case $found in *' installed '*) package=rpm package_name=${found%% *} && break ;; esac
        done
    fi
    if [ -z "$package" ]; then return 0; fi
    package_version=${found##* }
    # Also one that is half configured, by a postinst that failed.
    case $found in *' config-files '*) ;; *) package_lives=yes ;; esac
    case $package_lives:$package_version in
        *:[01].*) ;;
        # It lacks the files of another release.
        :*) package='' ;;
    esac
}

# A package of this program, by its own mark or, of another origin, by the package manager's list: its unit and settings
# would be shared, and its removal would take them. And one of a collector, where that is the same file.
refuse_package() {
    is_packaged=''
    if [ -f "$DESTDIR/usr/lib/kmagent/packaged" ]; then is_packaged=yes; fi
    case $package_lives:$package_version in yes:[!01]* | yes:[01][!.]*) is_packaged=yes ;; esac
    if [ -n "$is_packaged" ]; then
        die 64 "kmagent is installed by the package ${package_name:-kmagent} $package_version: upgrade that, or remove it first," \
            "which keeps settings, key, config and state; nothing was changed"
    fi
    if [ "$task:$PREFIX" = install:/usr ] && [ -f "$here/lib/kmagent/kmagent-collector" ] &&
        [ -f "$DESTDIR/usr/lib/kmagent/packaged-collector" ]; then
        die 64 "$PREFIX/lib/kmagent/kmagent-collector is of a package: remove that, or use the tarball -agent-only, or another" \
            "PREFIX; nothing was changed"
    fi
}

# Those of the package that are not replaced by ours, by their real names: /lib may be /usr/lib.
list_package() {
    case $package in
        '') return 0 ;;
        deb) list=$(dpkg-query -L "$package_name" 2>/dev/null) || : ;;
        rpm) list=$(rpm -ql "$package_name" 2>/dev/null) || : ;;
    esac
    for file in $list; do
        # Not /lib, a link on most hosts.
        if [ -d "$file" ] || { [ ! -f "$file" ] && [ ! -h "$file" ]; }; then continue; fi
        file=$(readlink -f "${file%/*}")/${file##*/}
        # What is in there was the operator's or the API's, and is taken over.
        case "$file $files $manifest " in "$etc"/* | *" $file "*) continue ;; esac
        package_files="$package_files $file"
    done
    for file in $package_files; do note beside "$file"; done
}

# When this release runs, so that there always is one agent.
forget_package() {
    if [ -z "$package" ]; then return 0; fi
    say "removing the entry of the package $package_name $package_version, without its scripts"
    for file in $package_files; do case $file in */kmagent/*) rmdir "${file%/*}" 2>/dev/null || : ;; esac; done
    tries=0
    until take_entry 2>"$stage/refusal"; do
        # Another package may be under way.
        if [ "$tries" -ge 60 ]; then cat "$stage/refusal" >&2 && return 1; fi
        tries=$((tries + 1))
        sleep 1
    done
}
take_entry() {
    if [ "$package" = rpm ]; then
        quietly rpm -e --justdb --noscripts "$package_name"
        return
    fi
    for script in prerm postrm; do
        script=$(dpkg-query --control-path "$package_name" "$script" 2>/dev/null) || continue
        if [ -n "$script" ]; then rm -f "$script" || return 1; fi
    done
    # dpkg looks for the files in a system that is empty.
    mkdir -p "$stage/empty" && quietly dpkg --no-triggers --admindir=/var/lib/dpkg --instdir="$stage/empty" --purge "$package_name"
}

# ---- install

staged=''     # whether $stage is ours
first_made='' # directories that were made for it

# A directory of root's own, on the file system of the settings; it is a lock, too.
take_stage() {
    make_dirs /etc
    first_made=$made made=''
    if ! mkdir -m 700 "$stage" 2>/dev/null; then
        [ -d "$stage" ] || die 73 "cannot create the directory $stage"
        other=$(sed -n 's/^process //p' "$stage/journal" 2>/dev/null | tail -n 1)
        if [ -n "$other" ] && is_installer "$other"; then die 75 "another install.sh is running (pid $other)"; fi
        say "continuing an interrupted install.sh"
        left=$(cat "$stage/journal" 2>/dev/null || :)
        clear_stage
    fi
    staged=yes
    if [ -z "$left" ]; then on_failure "rm -rf '$stage'"; fi
    note process $$
    for dir in $first_made; do note kept dir "$dir"; done
}
# After a boot its number may be another program's.
is_installer() { tr '\0' '\n' <"/proc/$1/cmdline" | grep -q 'install\.sh$'; } 2>/dev/null

check_tarball() {
    have sha256sum || die 69 "no sha256sum: the tarball cannot be verified"
    say "verifying the tarball"
    for name in bin/kmagent install.sh etc/kmagent/agent.yaml etc/kmagent/config.yaml; do
        grep -q " [ *]$name\$" "$here/SHA256SUMS" 2>/dev/null ||
            die 65 "no complete SHA256SUMS in $here: unpack the tarball again, and run install.sh from there"
    done
    bad=$(cd "$here" && sha256sum -c SHA256SUMS 2>&1) || {
        printf '%s\n' "$bad" | grep -v ': OK$' >&2
        die 65 "the tarball is damaged: unpack it again; nothing was changed"
    }
}

# A shell takes a program of another machine for a script, so the header is looked at first (elf(5): e_machine).
check_machine() {
    header=$(od -An -v -tx1 -N20 "$here/bin/kmagent" 2>/dev/null | tr -d ' \n')
    case $header in
        7f454c46*)
            case $(uname -m):${header#????????????????????????????????????} in
                x86_64:3e00 | x86_64:0300 | i?86:0300 | aarch64:b700 | aarch64:2800 | arm*:2800 | riscv64:f300) ;;
                x86_64:* | i?86:* | aarch64:* | arm*:* | riscv64:*)
                    die 69 "bin/kmagent is not built for this machine ($(uname -m)): use the tarball for it" ;;
            esac
            ;;
    esac
    version=$(cd "$stage" && "$here/bin/kmagent" --version) ||
        die 69 "bin/kmagent does not run on this machine ($(uname -m)): use the tarball for it; or is $here mounted noexec?"
    version=${version#kmagent }
}

put_everything() {
    # First, so that an interrupted run continues there.
    echo "${PREFIX:-/}" >"$stage/prefix" || die 73 "cannot write $stage"
    put 644 "$stage/prefix" "$record"
    names=$(sed 's/^[0-9a-f]* [ *]//' "$here/SHA256SUMS")
    for name in $names; do
        case $name in
            bin/* | lib/*) put 755 "$here/$name" "$PREFIX/$name" ;;
            share/*) put 644 "$here/$name" "$PREFIX/$name" ;;
            services/*)
                mode=644
                if [ -x "$here/$name" ]; then mode=755; fi
                put_service "$mode" "${name#services/}" "$PREFIX/share/doc/kmagent/$name"
                ;;
            install.sh) put 755 "$here/$name" "$PREFIX/lib/kmagent/install.sh" ;;
        esac
    done
    put_services
    # A tarball without a collector takes none away.
    collector=$PREFIX/lib/kmagent/kmagent-collector
    if [ ! -f "$here/lib/kmagent/kmagent-collector" ]; then
        for file in $old_files; do if [ "$file" = "$collector" ]; then files="$files $file"; fi; done
    fi
}

put_manifest() {
    {
        echo "# What install.sh installed; install.sh --uninstall removes it, and --purge what $etc/.installed lists."
        echo "version $version"
        echo "init $init"
        if [ -n "$started" ]; then echo started yes; fi
        # The innermost first.
        for dir in $made $old_dirs; do echo "dir $dir"; done | sort -ru
        for file in $files $manifest; do echo "file $file"; done | sort -u
        printf '%s' "$scripts"
    } >"$stage/manifest"
    put 644 "$stage/manifest" "$manifest"
}

is_stale() {
    pid=$(agent_says | sed -n 's/^ *"pid": \([0-9]*\),$/\1/p' | head -n 1)
    case $(readlink "/proc/${pid:-0}/exe" 2>/dev/null || :) in *' (deleted)') return 0 ;; *) return 1 ;; esac
}

install_all() {
    find_package
    refuse_package
    check_tarball
    # A line each: only the last failure of a line is noticed.
    old_version=$(noted version)
    old_init=$(noted init)
    old_files=$(noted file)
    old_dirs=$(noted dir)
    if [ -n "$init" ] && [ "${old_init:-$init}" != "$init" ]; then
        die 64 "kmagent is installed for $old_init: run this with --uninstall first, which keeps the settings"
    fi
    [ -n "$init" ] || init=${old_init:-$(find_init)}
    scripts='' was=stopped collector_was=''
    take_stage
    take "$etc"
    set_apart_planted
    go_on
    check_machine
    stage_settings
    check_variables
    # Nothing that is started from here on needs it.
    unset KM_API_KEY
    check_settings
    check_collector

    # What is to become of the service.
    started=$(noted started)
    # It looks as when the scripts of a 1.x that was removed since have stopped and disabled the service.
    if [ -n "$package" ] && [ -n "$started" ] && ! is_enabled kmagent.service && ! is_enabled kmagent-check.timer; then
        package_lives=yes
    fi
    action=none enabling=''
    if is_live; then
        was=$(service_state)
        if owes start; then
            changed=yes
            if [ "$was" = stopped ]; then was=failed; fi
        fi
        if [ "$was" = running ]; then collector_was=$(collector_state || :); fi
        case $was:$no_start:$started in
            *:yes:*) ;;
            running:*) action=restart started=yes ;;
            failed:* | stopped::) action=start started=yes ;;
            # Its scripts have stopped the service, if it was put over this installation.
            stopped:*) if [ -n "$package_lives" ]; then action=start; fi ;;
        esac
    fi

    check_units
    check_place

    if [ -n "$old_version" ] && [ "$old_version" != "$version" ]; then
        say "upgrading kmagent $old_version to $version in $PREFIX, service manager: $init"
    else
        say "installing kmagent $version in $PREFIX, service manager: $init"
    fi
    begun=yes
    if [ "$action" != none ]; then note owed start; fi
    if [ -z "$old_init" ] || [ -n "$package_lives" ] || owes enable; then enabling=yes && note owed enable; fi
    if [ -z "$DESTDIR" ]; then make_accounts; fi
    put_everything
    put_manifest
    obsolete=''
    for file in $old_files; do
        case " $files $manifest " in *" $file "*) ;; *) obsolete="$obsolete $file" && note file "$file" ;; esac
    done
    list_package
    write_through
    place_settings
    note_settings

    restarted='' enabled='' # these two decide how it is undone
    # By a package of 1.x, say.
    if [ -n "$enabling" ] && { is_enabled kmagent.service || { [ -n "$old_init" ] && [ "$init" != systemd ]; }; }; then
        enabled=yes
    fi
    on_failure put_service_back
    # shellcheck disable=SC2086 # a path is one word
    set -- $pending
    if [ $# -gt 0 ]; then say "installing $# new files"; else say "all files are up to date"; fi
    swap_in
    for file in $obsolete; do
        say "removing $file, which this release does not have"
        set_aside "$file"
    done
    for file in $package_files; do
        say "removing $file of the package $package_name $package_version"
        set_aside "$file"
    done
    start_service
    commit
    forgotten=yes
    forget_package || forgotten=''
    tell_rest
    [ -n "$forgotten" ] || die 71 "the agent is installed, but the package $package_name $package_version could not be removed," \
        "and would stop it when that is done later: run install.sh again"
}

start_service() {
    if [ -n "$DESTDIR" ] || [ "$init" = none ]; then return 0; fi
    if [ -n "$pending$left" ]; then service reload || die 71 "the service manager does not accept the service"; fi
    if [ -n "$enabling" ]; then
        say "enabling the service"
        [ -n "$enabled" ] || owes enable || on_failure 'service disable'
        service enable || die 71 "cannot enable the service"
    fi
    if [ "$action" = restart ] && [ -z "$changed" ] && ! is_stale; then action=none; fi
    case $action in
        none) return 0 ;;
        restart)
            say "restarting the service"
            restarted=yes
            ;;
        start)
            say "starting the service"
            on_failure 'service stop'
            ;;
    esac
    # Nobody is worse off with an agent whose collector fails where one failed before, or where there is none.
    case $collector_was:$old_init in
        running:* | starting:* | handing-over:*) expected=proved ;;
        # A 1.x has a collector in itself.
        *:)
            expected=any
            if [ -f "$here/lib/kmagent/kmagent-collector" ] || [ -n "$package_lives" ]; then expected=proved; fi
            ;;
        *) expected=any ;;
    esac
    { service "$action" && wait_for_agent "$expected"; } || { explain_failure && die 69 "the agent does not start"; }
}

# What is installed is again what was.
put_service_back() {
    service reload
    if [ -n "$enabled" ]; then service enable; fi
    if [ -n "$restarted" ]; then
        # A 1.x agent does not answer.
        service restart && { [ ! -x "$PREFIX/bin/kmagent" ] || wait_for_agent any; }
    fi
}

tell_rest() {
    if [ -n "$DESTDIR" ]; then
        if [ "$init" = none ]; then say "no service was installed: choose a service manager with --init"; fi
        say "done; for the remaining steps (user, owner, service) see README.md"
        return 0
    fi
    because=$(local_because)
    # It may have more than that from its environment.
    if agent_says >/dev/null; then because=$(agent_says | sed -n 's/^ *"local_because": "\(.*\)",*$/\1/p'); fi
    case $because in
        '') ;;
        'there is no API key'*)
            say "there is no API key yet: put it in $etc/api-key and run kmagent reload; until then there are no config checks"
            ;;
        *) warn "there are NO CONFIG CHECKS: $because in $etc/agent.yaml, and run kmagent reload" ;;
    esac
    if is_stale; then
        say "the previous agent is still running: restart it"
    elif agent_says >/dev/null; then
        env -i "PATH=$PATH" "$PREFIX/bin/kmagent" status
    elif [ "$init" = none ]; then
        say "no service manager was found: run $PREFIX/bin/kmagent start, for instance from inittab"
    elif is_enabled kmagent-check.timer; then
        say "the service is not started, since kmagent-check.timer does the checks; back to the agent:" \
            "systemctl disable --now kmagent-check.timer && systemctl enable --now kmagent"
    else
        say "the service is not started: it was stopped, or --no-start was given, or this system does not run $init"
    fi
    case $init:$old_init in
        systemd:)
            say "for checks by a timer, without an agent:" \
                "systemctl disable --now kmagent && systemctl enable --now kmagent-check.timer"
            ;;
        sysv:)
            say "an agent that crashed is not restarted here, except by cron:" \
                "$PREFIX/share/doc/kmagent/services/cron/kmagent has the line for it"
            ;;
    esac
    case :$PATH: in *":$PREFIX/bin:"*) ;; *) say "$PREFIX/bin is not in PATH" ;; esac
    say "done; to uninstall: $PREFIX/lib/kmagent/install.sh --uninstall"
}

# ---- uninstall

uninstall() {
    if [ ! -f "$DESTDIR$manifest" ] && [ -z "$left" ]; then
        say "kmagent is not installed in $DESTDIR$PREFIX: there are no programs to remove"
        return 0
    fi
    init=$(noted init)
    init=${init:-none}
    old_files=$(noted file)
    old_dirs=$(noted dir)
    take "$etc"
    set_apart_planted
    go_on
    say "removing kmagent from $DESTDIR$PREFIX"
    begun=yes
    on_failure 'service reload'
    if is_live; then stop_service; fi
    if [ -z "$DESTDIR" ] && [ "$init" != none ]; then
        disable_service
    elif [ -z "$DESTDIR" ] && agent_says >/dev/null; then
        say "stopping the running agent"
        "$PREFIX/bin/kmagent" stop || die 71 "cannot stop the agent: nothing was removed"
    fi
    for file in $old_files; do
        if [ "$file" != "$manifest" ]; then set_aside "$file"; fi
    done
    for dir in $old_dirs; do note dir "$dir"; done
    commit
    # Last, so that an interrupted run can continue.
    rm -f "$DESTDIR$manifest" || warn "cannot remove $DESTDIR$manifest"
    if [ -z "$DESTDIR" ]; then service reload || warn "cannot reload the service manager"; fi
    # Else systemd goes on listing units that have failed.
    if [ "$init" = systemd ] && is_live; then systemctl reset-failed 'kmagent*' 2>/dev/null; fi
    for dir in $old_dirs; do rmdir "$DESTDIR$dir" 2>/dev/null || :; done
    tell_left_over
}

# What was not installed by this, and is for a program that is gone.
tell_left_over() {
    for place in "$DESTDIR"/etc/cron.d/kmagent "$DESTDIR"/etc/systemd/system/kmagent*.d; do
        if [ -e "$place" ]; then say "keeping ${place#"$DESTDIR"}, which install.sh did not create: remove it yourself"; fi
    done
}

stop_service() {
    if [ "$(service_state)" != stopped ]; then
        say "stopping the service"
        note owed start
        on_failure 'service start'
        service stop || die 71 "cannot stop the service: nothing was removed"
    fi
}

disable_service() {
    say "disabling the service"
    note owed enable
    if [ "$init" != systemd ] || is_enabled kmagent.service; then on_failure 'service enable'; fi
    if is_enabled kmagent-check.timer; then on_failure 'quietly systemctl enable --now kmagent-check.timer'; fi
    service disable || die 71 "cannot disable the service: nothing was removed"
}

purge() {
    say "removing settings, config, key and state"
    take "$etc"
    undo=''
    noted=$(noted_kept)
    trouble=''
    for file in agent.yaml api-key policy.yaml config.yaml config.yaml.rejected; do
        rm -f "$DESTDIR$etc/$file" || trouble=yes
    done
    rm -f "$DESTDIR$etc"/.config.yaml.candidate-* || trouble=yes
    # The second is the one on OpenWrt.
    remove_state "$state" || trouble=yes
    remove_state "$etc/state" || trouble=yes
    for file in /etc/default/kmagent /etc/sysconfig/kmagent /etc/conf.d/kmagent; do
        if [ -f "$DESTDIR$file" ]; then say "removing $file" && rm -f "$DESTDIR$file" || trouble=yes; fi
    done
    if [ -z "$DESTDIR" ]; then remove_state /run/kmagent || trouble=yes; fi
    if [ -z "$DESTDIR" ]; then drop_accounts "$noted" || trouble=yes; fi
    # What is to be removed yet is known by this.
    [ -z "$trouble" ] || die 73 "not everything could be removed, see above: run this again"
    rm -f "$DESTDIR$kept" || die 73 "cannot remove $DESTDIR$kept"
    if [ -d "$DESTDIR$etc" ] && ! rmdir "$DESTDIR$etc" 2>/dev/null; then
        say "keeping $etc: it contains files that are not kmagent's"
    fi
    # It lies in one of the directories that are to go now.
    rm -rf "$stage"
    left=''
    printf '%s\n' "$noted" | sed -n 's/^dir //p' | sort -r | while read -r dir; do rmdir "$DESTDIR$dir" 2>/dev/null || :; done
}

# Not as it lies there: while root goes down into it by name, its owner could put a link in the way.
remove_state() {
    if [ -h "$DESTDIR$1" ] || [ ! -d "$DESTDIR$1" ]; then rm -f "$DESTDIR$1" && return 0; fi
    private=$DESTDIR$(beside "$1" old)
    rm -rf "$private" && mkdir -m 700 "$private" && mv -f "$DESTDIR$1" "$private/" && rm -rf "$private"
}

drop_accounts() {
    for word in $(printf '%s\n' "$1" | sed -n 's/^member //p'); do
        if is_member "$word"; then say "removing $account from the group $word" && drop_member "$word" || return 1; fi
    done
    if printf '%s\n' "$1" | grep -qx user && has_user; then say "removing the user $account" && drop_user || return 1; fi
    # userdel(8) may have removed it with the user.
    if printf '%s\n' "$1" | grep -qx group && has_group "$account"; then
        say "removing the group $account" && drop_group || return 1
    fi
}

# ---- the command line

choose_prefix() {
    recorded=''
    if [ -f "$DESTDIR$record" ]; then recorded=$(cat "$DESTDIR$record") || die 73 "cannot read $DESTDIR$record"; fi
    if [ -z "${PREFIX-}" ]; then
        PREFIX=${recorded:-/usr/local}
        # Run where it was installed.
        case $here in "$DESTDIR"/*/lib/kmagent) if [ -f "$here/manifest" ]; then PREFIX=${here%/lib/kmagent} && PREFIX=${PREFIX#"$DESTDIR"}; fi ;; esac
    fi
    case $PREFIX in
        /*[!A-Za-z0-9/._+-]* | [!/]*) die 64 "PREFIX must be an absolute path of letters, digits and /._+-" ;;
    esac
    while [ "${PREFIX%/}" != "$PREFIX" ]; do PREFIX=${PREFIX%/}; done
    # Two of them would share the settings and the service.
    if [ -n "$recorded" ] && [ -f "$DESTDIR$recorded/lib/kmagent/manifest" ] && [ "${PREFIX:-/}" != "$recorded" ]; then
        die 64 "kmagent is installed in $recorded: unset PREFIX, or run this with --uninstall first, which keeps the settings"
    fi
}

main() {
    task=install no_start='' purging='' init='' api_key_file=${KM_API_KEY_FILE-} api_key=${KM_API_KEY-}
    while [ $# -gt 0 ]; do
        case $1 in
            --api-key-file=*) api_key_file=${1#*=} ;;
            --init=*) init=${1#*=} ;;
            --api-key-file | --init)
                [ $# -ge 2 ] || die 64 "$1 needs a value, see ./install.sh --help"
                if [ "$1" = --init ]; then init=$2; else api_key_file=$2; fi
                shift
                ;;
            --no-start) no_start=yes ;;
            --uninstall) task=uninstall ;;
            --purge) task=uninstall purging=yes ;;
            --help | -h) usage && return 0 ;;
            *) die 64 "unknown argument $1, see ./install.sh --help" ;;
        esac
        shift
    done
    case $init in '' | systemd | openrc | procd | sysv | none) ;; *) die 64 "no such service manager: $init, see ./install.sh --help" ;; esac
    one_line KM_API_KEY "$api_key"
    case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
    here=$(CDPATH='' cd -- "$here" && pwd)

    DESTDIR=${DESTDIR-}
    case $DESTDIR in
        *"$newline"* | *"'"*) die 64 "DESTDIR has a line break or a quote in it" ;;
        '' | /*) ;;
        *) DESTDIR=$PWD/$DESTDIR ;;
    esac
    while [ "${DESTDIR%/}" != "$DESTDIR" ]; do DESTDIR=${DESTDIR%/}; done
    choose_prefix
    manifest=$PREFIX/lib/kmagent/manifest stage=$DESTDIR/etc/.kmagent-install

    [ -n "$DESTDIR" ] || [ "$(id -u)" -eq 0 ] || die 77 "run this as root, or set DESTDIR"
    trap finish EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap '' PIPE
    case $task in
        install)
            if [ -n "$DESTDIR" ]; then mkdir -p "$DESTDIR" || die 73 "cannot create $DESTDIR"; fi
            install_all
            ;;
        uninstall)
            # Settings, key and state are that package's now.
            if [ -n "$purging" ]; then find_package && refuse_package; fi
            if [ -d "$DESTDIR/etc" ]; then take_stage; fi
            uninstall
            if [ -n "$purging" ]; then purge; fi
            ;;
    esac
}

main "$@"
