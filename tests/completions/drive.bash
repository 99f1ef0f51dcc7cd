# shellcheck shell=bash
# shellcheck disable=SC1091,SC2153 # what it is given from outside
# An rcfile: types each line of the file CASES into this interactive bash, has readline insert all completions, and adds
# the line as it is then to the file OUT. It waits for one key, Control-T, and ends the shell.
set +o history
PS1=''
mapfile -t cases <"$CASES"
current=0
type_case() { READLINE_LINE=${cases[current++]} READLINE_POINT=${#READLINE_LINE}; }
record() { printf '%s\n' "$READLINE_LINE" >>"$OUT" && READLINE_LINE='' READLINE_POINT=0; }
bind -x '"\C-x1": type_case'
bind '"\C-x2": insert-completions'
bind -x '"\C-x3": record'
bind -x '"\C-x4": exit'
keys=''
for _ in "${cases[@]}"; do keys+='\C-x1\C-x2\C-x3'; done
bind "\"\\C-t\": \"$keys\\C-x4\""
source "$COMPLETIONS/kmagent.bash"
