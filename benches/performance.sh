# The table of docs/performance.md; sourced by run.sh. Nothing else may use the loopback device meanwhile: its counter tells how many bytes a
# root's server sends and takes.

loopback_bytes() { awk '$1 == "lo:" { print $2 }' /proc/net/dev; }

# RECIPE MODE: guest uptime at which kubelet is healthy with 512 MiB, and what a machine has moved over the network until then, in MB: its boot
# files, which a loader would have fetched, and both directions of the root's connections.
boot_once() {
    local recipe=$1 mode=$2 image before healthy append
    prepare_root "$recipe" "$mode"
    before=$(loopback_bytes)
    healthy=$("$bootwright" smoke --quiet --recipe "$recipe" --root "$mode" --out "$out" --ram-mib 512 "${append[@]}" --until service:kubelet --json |
        kubelet_uptime)
    stop_servers
    files=$(stat -c %s "$image/vmlinuz" "$image/initrd.img" | awk '{ s += $1 } END { printf "%.2f", s / 1e6 }')
    moved=$(awk -v files="$files" -v lo=$(($(loopback_bytes) - before)) 'BEGIN { printf "%.1f", files + lo / 1e6 }')
    uptime=$healthy
}

# All rows take turns, so that a host that gets slower is slower for all of them. Roots in RAM, by which the two workers are compared, boot
# nine times, all others $boots times.
performance() {
    local turn recipe mode files moved uptime key block
    declare -A all_files all_moved all_uptimes
    for turn in $(seq 9); do
        for recipe in worker worker-small; do
            for mode in ram http nbd iscsi nfs; do
                [ "$mode" = ram ] || [ "$turn" -le "$boots" ] || continue
                boot_once "$recipe" "$mode"
                key=$recipe/$mode
                all_files[$key]=$files
                all_moved[$key]+=" $moved"
                all_uptimes[$key]+=" $uptime"
            done
        done
    done
    block=$work/performance.md
    {
        echo "| recipe | root | kernel and initrd | bytes over the network | kubelet healthy |"
        echo "|---|---|---|---|---|"
        for recipe in worker worker-small; do
            for mode in ram http nbd iscsi nfs; do
                key=$recipe/$mode
                echo "| \`$recipe\` | $mode | ${all_files[$key]} MB | $(median ${all_moved[$key]}) MB | $(printf %.1f "$(median ${all_uptimes[$key]})") s |"
            done
        done
        echo
        echo "Medians of nine boots from RAM and $boots from each server, rows in turns; $(date -I), commit $(git rev-parse --short HEAD), $(nproc) processors, $(qemu-system-x86_64 --version | head -1)."
    } > "$block"
    cat "$block"
    local ratio
    ratio=$(awk -v a="$(median ${all_uptimes[worker/ram]})" -v b="$(median ${all_uptimes[worker-small/ram]})" 'BEGIN { printf "%.2f", a / b }')
    row "worker against worker-small, kubelet healthy at 512 MiB" "$ratio" "at most 1.2 (${all_uptimes[worker/ram]# } against ${all_uptimes[worker-small/ram]# })"
    python3 - "$block" docs/performance.md <<'EOF'
import os, sys
table, path = open(sys.argv[1]).read(), sys.argv[2]
head, rest = open(path).read().split("<!-- table -->\n", 1)
tail = rest.split("<!-- end of the table -->\n", 1)[1]
with open(path + ".new", "w") as new:
    new.write(head + "<!-- table -->\n" + table + "<!-- end of the table -->\n" + tail)
    new.flush()
    os.fsync(new.fileno())
os.rename(path + ".new", path)
EOF
}
