# What machines have for pods, beside what the model says of it, and the least RAM with which kubelet is healthy; sourced by run.sh.

# Starts the server of a root, unless it comes with the initrd; sets `image` and `append`.
prepare_root() { # RECIPE MODE
    image=$out/$1-$2 append=()
    [ "$2" != ram ] || image=$out/$1
    case $2 in
    nbd | iscsi | nfs) serve "$1" "$2" && append=(--append "bw.root=$url") ;;
    *) build --recipe "$1" --root "$2" >/dev/null ;;
    esac
}

# MiB for pods: what the machine says on its console, or nothing where PID1 had no chance to.
pods_of_machine() { # RECIPE MODE RAM
    "$bootwright" smoke --quiet --recipe "$1" --root "$2" --out "$out" --ram-mib "$3" "${append[@]}" --until phases-done >/dev/null 2>&1 || true
    sed -n 's/.* memory [0-9]* MiB: .* \([0-9]*\) for [0-9]* pods.*/\1/p' "$image/smoke/console.log" | head -n 1
}

pods_of_model() { # RECIPE MODE RAM
    "$bootwright" budget --quiet --recipe "$1" --root "$2" --out "$out" --ram "$3" --json |
        python3 -c 'import json,sys; print([t["bytes"] for t in json.load(sys.stdin)["terms"] if t["name"] == "pods"][0] >> 20)'
}

memory() {
    local recipe mode ram machine model image append wrong=0
    echo "| recipe | root | RAM | pods, MiB | model | off by |"
    echo "|---|---|---|---|---|---|"
    for recipe in worker worker-small; do
        for mode in ram http nbd iscsi nfs; do
            prepare_root "$recipe" "$mode"
            for ram in 256 512 1024 2048; do
                machine=$(pods_of_machine "$recipe" "$mode" "$ram")
                model=$(pods_of_model "$recipe" "$mode" "$ram")
                [ -n "$machine" ] || { echo "\`$recipe\`, $mode, $ram MiB: the machine said nothing; the model says $model" >&2; wrong=1; continue; }
                awk -v r="$recipe" -v m="$mode" -v ram="$ram" -v seen="$machine" -v said="$model" 'BEGIN {
                    off = (said - seen) * 100 / seen
                    printf "| `%s` | %s | %d | %d | %d | %+.1f %% |\n", r, m, ram, seen, said, off
                    exit off * off > 100 }' || wrong=1
            done
            stop_servers
        done
    done
    [ "$wrong" = 0 ] || { echo "the model is more than 10 % off" >&2; return 1; }
}

# Kubelet healthy, guest uptime, at the least RAM that each has to run with.
small_ram() {
    local recipe mode ram times image append
    for recipe in worker:ram:176 worker:nbd:144 worker:iscsi:144 worker:nfs:144 worker-small:ram:160 worker-small:nbd:112 worker-small:iscsi:112 worker-small:nfs:112; do
        IFS=: read -r recipe mode ram <<<"$recipe"
        times=()
        prepare_root "$recipe" "$mode"
        for _ in $(seq "$boots"); do
            times+=("$({ "$bootwright" smoke --quiet --recipe "$recipe" --root "$mode" --out "$out" --ram-mib "$ram" "${append[@]}" --until kubelet-healthy --json 2>/dev/null || true; } |
                kubelet_uptime)")
        done
        stop_servers
        row "$recipe, $mode root: kubelet healthy at $ram MiB" "$(median "${times[@]}") s" "at most 30 s (${times[*]})"
    done
}
