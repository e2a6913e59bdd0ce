#!/usr/bin/env bash
# Upstream's own unit tests of each package that a patch of `patches/` changes: on upstream's source, and on the patched one.
# What passes there has to pass here, but for the tests of `patches/expected-failures.txt`, and those have to fail.
set -euo pipefail
cd "$(dirname "$0")/.."
logs=$PWD/target/test-patches
work=$(mktemp -d)
rm -rf "$logs"
mkdir -p "$logs"
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export GOFLAGS=-mod=mod GOTOOLCHAIN=local GOWORK=off
for program in nft iptables patch; do
    command -v $program > /dev/null || { echo "error: \`$program\` is not installed" >&2; echo "  help: apt-get install nftables iptables patch" >&2; exit 1; }
done
failed=0

# fail TEXT...
fail() { echo "error: $*" >&2; failed=1; }

# versions_of MODULE: those that the recipes and programs name.
versions_of() {
    local found wanted
    # What Kubernetes publishes beside its own module, as v0 of the same release.
    case $1 in
        k8s.io/kubernetes) ;;
        k8s.io/*) versions_of k8s.io/kubernetes | sed 's/^v1\./v0./'; return ;;
    esac
    found=$(awk -v module="\"$1\"" '$1 == "module" && $3 == module { getline; gsub(/"/, "", $3); print $3 }' recipes/*.toml | sort -u)
    # What only a dependency of a program wants counts where no program asks for it itself.
    for wanted in '!/indirect/' '/indirect/'; do
        [ -n "$found" ] || found=$(awk -v module="$1" "(\$1 == module || \$2 == module) && $wanted { sub(/^require /, \"\"); print \$2 }" programs/*/go.mod | sort -u)
    done
    [ -n "$found" ] || { echo "error: neither recipes/ nor programs/ name a version of $1" >&2; exit 1; }
    echo "$found"
}

# packages FOLDER: the packages that the patches of a folder change.
packages() { sed -n 's|^+++ b/\(.*\)/[^/]*\.go$|./\1|p' "$1"/*.patch | sort -u; }

# apply FOLDER TREE
apply() { for patch in "$1"/*.patch; do patch --directory "$2" --strip 1 --fuzz 0 --quiet < "$patch"; done; }

# A module's published archive lacks the modules that its go.mod replaces by folders.
publish() { sed -i -E "s|=> \./staging/src/(\S+)|=> \1 ${2/#v1./v0.}|" "$1/go.mod"; }

# Test files follow the package when a patch gives it another name.
rename_tests() {
    local package name
    for package in "${changed[@]}"; do
        name=$(grep -hs '^package ' "$1/$package"/*.go | sort | uniq -c | sort -rn | awk '$3 != "main" && $3 !~ /_test$/ { print $3; exit }')
        find "$1/$package" -maxdepth 1 -name '*_test.go' -exec sed -i "s/^package main\(_test\)\?$/package ${name:-main}\1/" {} +
    done
}

# run NAME TREE PACKAGES...: the names of the tests that pass, and of the specs of those that Ginkgo runs. NAME is that of the log.
run() {
    local log=$logs/$1.log tree=$2 package specs
    shift 2
    rm -f "$log"
    for package; do
        specs=()
        grep -qs ginkgo "$tree/$package"/*_test.go && specs=(-ginkgo.no-color -ginkgo.junit-report="$work/specs.xml")
        rm -f "$work/specs.xml"
        (cd "$tree" && "$go" test -count 1 -v "$package" "${specs[@]}" 2>&1 || true) | tee -a "$log" | awk '$1 == "---" && $2 == "PASS:" { print $3 }'
        [ ! -e "$work/specs.xml" ] || sed -n 's/.*<testcase name="\([^"]*\)".* status="passed".*/\1/p' "$work/specs.xml" | tr ' ' _
    done | sort -u
}

# compare MODULE VERSION: `before` and `after` in $work.
compare() {
    local name pattern lost expected
    mapfile -t lost < <(comm -23 "$work/before" "$work/after")
    mapfile -t expected < <(awk -v module="$1" '$1 == module && $2 !~ /_test\.go$/ { print $2 }' patches/expected-failures.txt)
    for pattern in "${expected[@]}"; do
        printf '%s\n' "${lost[@]}" | grep -qxE "$pattern" || fail "$1: $pattern is in patches/expected-failures.txt, and no such test fails"
    done
    for name in "${lost[@]}"; do
        printf '%s\n' "${expected[@]}" | grep -qxE -f - <(echo "$name") || fail "$1: $name passes on upstream's source and not on the patched one"
    done
    [ -s "$work/before" ] || fail "$1 $2: no test passes on upstream's own source"
    echo "$1 $2: $(wc -l < "$work/before") tests pass on upstream's source, $(wc -l < "$work/after") on the patched one"
}

# test_module FOLDER MODULE VERSION
test_module() {
    rm -rf "$work/plain" "$work/patched"
    cp -r "$("$go" mod download -json "$2@$3" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')" "$work/plain"
    chmod -R u+w "$work/plain"
    publish "$work/plain" "$3"
    awk -v module="$2" '$1 == module && $2 ~ /_test\.go$/ { print $2 }' patches/expected-failures.txt | (cd "$work/plain" && xargs -r rm)
    # What other tests need of a file that is left out.
    [ ! -d "$1/tests" ] || cp -r "$1/tests/." "$work/plain"
    cp -a "$work/plain" "$work/patched"
    apply "$1" "$work/patched"
    rename_tests "$work/patched"
    run "${2//\//-}-upstream" "$work/plain" "${changed[@]}" > "$work/before"
    run "${2//\//-}-patched" "$work/patched" "${changed[@]}" > "$work/after"
    compare "$2" "$3"
}

# test_std FOLDER
test_std() {
    local tree part
    mkdir "$work/std"
    for tree in plain patched; do
        mkdir -p "$work/std/$tree"
        cp -r "$("$go" env GOROOT)/src" "$work/std/$tree/src"
        # Tests of the standard library run below a whole Go.
        for part in bin pkg lib test go.env VERSION; do ln -s "$("$go" env GOROOT)/$part" "$work/std/$tree/$part"; done
    done
    apply "$1" "$work/std/patched/src"
    GOROOT="$work/std/plain" run std-upstream "$work/std/plain/src" "${changed[@]}" > "$work/before"
    GOROOT="$work/std/patched" run std-patched "$work/std/patched/src" "${changed[@]}" > "$work/after"
    compare std "$("$go" env GOVERSION)"
}

go=$(scripts/go.sh)
while read -r folder; do
    module=${folder#patches/}
    mapfile -t changed < <(packages "$folder")
    if [ "$module" = std ]; then
        test_std "$folder"
    else
        for version in $(versions_of "$module"); do test_module "$folder" "$module" "$version"; done
    fi
done < <(find patches -name '*.patch' -printf '%h\n' | sort -u)
[ $failed = 0 ] || { echo "  help: what go said is in $logs" >&2; exit 1; }
