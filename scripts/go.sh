#!/usr/bin/env bash
# Prints the path of the Go that programs/pod/go.mod pins; ends with 1 where it is not installed. Exactly that one, as another
# gives other programs: wherever the PATH finds it, beside bootwright's own data, or where its site says to put it.
set -euo pipefail

needed=$(sed -n 's/^go //p' "$(dirname "$0")/../programs/pod/go.mod")
data_dir=${XDG_DATA_HOME:-$HOME/.local/share}/bootwright
for go in $(type -ap go) "$data_dir/go/bin/go" /usr/local/go/bin/go; do
    if [ -x "$go" ] && [ "$(GOTOOLCHAIN=local "$go" env GOVERSION 2>/dev/null)" = "go$needed" ]; then
        printf '%s\n' "$go"
        exit
    fi
done
exit 1
