#!/usr/bin/env bash
# Measures what the README claims, side by side in one run where it compares, and prints one table. Takes about 50 minutes.
# usage: benches/run.sh [sizes|builds|pack|boots|prototype|netroot ...]   (default: all of these)
#        benches/run.sh performance   (the table of docs/performance.md)
#        benches/run.sh memory        (what machines have for pods, beside the model: the table of docs/memory.md)
#        benches/run.sh small_ram     (kubelet healthy with little RAM)
#        BEFORE=COMMIT benches/run.sh before   (the same boots with the tool and the recipes of another commit, in turns)
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/sbin:/sbin
bootwright=$PWD/target/release/bootwright
export BOOTWRIGHT=$bootwright
work=${BENCH_DIR:-target/bench}
mkdir -p "$work"
out=$work/out
boots=${BENCH_BOOTS:-3}
parts=${*:-sizes builds pack boots prototype netroot}

row() { printf '%-58s %12s   %s\n' "$1" "$2" "${3:-}"; }
# Median of the numbers given.
median() { printf '%s\n' "$@" | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
# Seconds of wall time of a command.
seconds() {
    local start=$EPOCHREALTIME
    "$@" >/dev/null 2>"$work/last.log" || { cat "$work/last.log" >&2; return 1; }
    awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.3f", b - a }'
}
median_of() { # RUNS COMMAND...
    local n=$1 times=() ; shift
    for _ in $(seq "$n"); do times+=("$(seconds "$@")"); done
    median "${times[@]}"
}
build() { "$bootwright" build --quiet --out "$out" "$@"; }
cache=${BOOTWRIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bootwright}
# The guest uptime at which kubelet was healthy, from the document of `smoke --json`; 999 where it was not.
kubelet_uptime() {
    python3 -c 'import json,sys; print([e["uptime_s"] or 999 for e in json.load(sys.stdin)["expectations"] if e["expectation"] in ("service:kubelet", "kubelet-healthy")][0])'
}
healthy() { # RECIPE RAM: guest uptime at which kubelet is healthy
    "$bootwright" smoke --quiet --recipe "$1" --out "$out" --ram-mib "$2" --until kubelet-healthy --json |
        kubelet_uptime
}

row "what" "figure" "to reach"
build --recipe worker >/dev/null
build --recipe worker-small >/dev/null

sizes() {
    local files recipe most
    for recipe in worker:54 worker-small:43; do
        most=${recipe#*:} recipe=${recipe%:*}
        files=$(stat -c %s "$out/$recipe/vmlinuz" "$out/$recipe/initrd.img" | awk '{ s += $1 } END { printf "%.2f MB", s / 1e6 }')
        row "$recipe: kernel + initrd" "$files" "at most $most MB"
    done
    local made
    made=$(dirname "$(ls -t target/release/build/bootwright-*/out/pid1 | head -n 1)")
    row "PID1 of a root in RAM" "$(stat -c %s "$made/pid1-ram") B" "at most 600000 B"
    row "PID1 with network roots" "$(stat -c %s "$made/pid1") B" "at most 800000 B"
}

builds() {
    row "build, nothing changed" "$(median_of 11 build --recipe worker) s" "at most 0.100 s"
    local project=$work/project before after
    rm -rf "$project"; mkdir -p "$project"
    cp -r recipes overlays patches programs "$project/"
    (cd "$project" && "$bootwright" build --quiet --recipe worker --out out) >/dev/null
    before=$(cd "$project/out/worker/segments" && sha256sum boot.* root.*)
    local times=()
    for i in 1 2 3 4 5; do
        echo "edit $i" >"$project/overlays/worker/etc/motd"
        times+=("$(cd "$project" && work=$PWD && seconds "$bootwright" build --quiet --recipe worker --out out)")
    done
    after=$(cd "$project/out/worker/segments" && sha256sum boot.* root.*)
    [ "$before" = "$after" ] || { echo "an overlay changed more than the last segment" >&2; exit 1; }
    row "build, one overlay file changed" "$(median "${times[@]}") s" "at most 0.300 s"
    # Downloads only: everything derived from them is made again.
    local warm=$work/warm
    "$bootwright" build --quiet --recipe rescue --cache "$warm" --out "$work/rescue" >/dev/null
    times=()
    for _ in 1 2 3; do
        rm -rf "$warm/derived" "$work/rescue"
        times+=("$(seconds "$bootwright" build --quiet --recipe rescue --cache "$warm" --out "$work/rescue")")
    done
    row "build rescue from a warm cache of downloads" "$(median "${times[@]}") s" "at most 5 s"
}

# The same compressor by hand on the same bytes: the root's tree, from a tar as the tool feeds it.
pack() {
    local tree=$work/tree ours hand block packed
    packed=$(realpath "$out/worker/segments/root.cpio")
    rm -rf "$tree"
    mkdir -p "$tree"
    (cd "$tree" && cpio -idm --quiet <"$packed")
    unsquashfs -q -n -d "$tree/root" "$tree/bootwright/root.img" >/dev/null
    block=$(unsquashfs -s "$tree/bootwright/root.img" | sed -n 's/^Block size //p')
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$tree/root" -cf "$tree/root.tar" .
    local by_hand=() by_tool=()
    for _ in 1 2 3; do
        rm -f "$tree/hand.img"
        by_hand+=("$(seconds sh -c "mksquashfs - '$tree/hand.img' -tar -noappend -quiet -no-progress -comp zstd -Xcompression-level 22 -b $block -processors $(nproc) -no-xattrs <'$tree/root.tar'")")
        rm -rf "$cache/derived/segments" "$out/worker"
        by_tool+=("$(seconds "$bootwright" build --quiet --recipe worker --out "$out")")
    done
    ours=$(median "${by_tool[@]}"); hand=$(median "${by_hand[@]}")
    row "cold pack: whole build, sources cached" "$ours s" "at most 1.2 times by hand"
    row "  mksquashfs by hand on the same bytes, same threads" "$hand s" "ratio $(awk -v a="$ours" -v b="$hand" 'BEGIN { printf "%.2f", a / b }')"
}

boots() {
    local at192=()
    for _ in $(seq "$boots"); do at192+=("$(healthy worker-small 192)"); done
    row "worker-small: kubelet healthy at 192 MiB, guest uptime" "$(median "${at192[@]}") s" "at most 30 s (${at192[*]})"
}

prototype_healthy() {
    timeout 120 qemu-system-x86_64 -machine q35 -accel tcg,thread=single -cpu max -smp 2 -m 512 -nodefaults -display none -no-reboot -serial stdio \
        -kernel "$work/prototype/vmlinuz" -initrd "$work/prototype/initrd.img" -append "console=ttyS0 panic=-1" |
        sed -n 's/.*prototype: kubelet \([0-9.]*\).*/\1/p'
}

prototype() {
    [ -e "$work/prototype/initrd.img" ] || benches/prototype.sh "$work/prototype" >/dev/null
    local ours=() small=() theirs=()
    for _ in $(seq "$boots"); do
        ours+=("$(healthy worker 512)")
        small+=("$(healthy worker-small 512)")
        theirs+=("$(prototype_healthy)")
    done
    row "worker: kubelet healthy at 512 MiB, guest uptime" "$(median "${ours[@]}") s" "at most 1.0 times the prototype, 1.2 times worker-small (${ours[*]})"
    row "  worker-small in the same run" "$(median "${small[@]}") s" "(${small[*]})"
    row "  prototype in the same run" "$(median "${theirs[@]}") s" "(${theirs[*]})"
    row "  prototype: kernel + initrd" "$(stat -c %s "$work"/prototype/{vmlinuz,initrd.img} | awk '{ s += $1 } END { printf "%.2f MB", s / 1e6 }')"
}

. benches/netroot.sh
. benches/before.sh
. benches/performance.sh
. benches/memory.sh
for part in $parts; do $part; done
