# Completes each line of the file CASES and adds one line to the file OUT for each: the matches, separated by tabs.
source $COMPLETIONS/kmagent.fish
for line in (cat $CASES)
    set -l matches
    for match in (complete -C $line)
        # What follows the tab is the description.
        set -a matches (string split \t -- $match)[1]
    end
    printf '%s\n' (string join -- \t $matches) >>$OUT
end
