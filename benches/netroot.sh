# Figures of roots over the network; sourced by run.sh. Servers are started from the configurations that `build` emits.

servers=()
tgt_folder=
# tgtd does not heed SIGTERM while it has targets.
stop_servers() {
    for pid in "${servers[@]}"; do kill -KILL "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true; done
    servers=()
    [ -z "$tgt_folder" ] || rm -r "$tgt_folder"
    tgt_folder=
}
trap stop_servers EXIT

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
await_port() { for _ in $(seq 100); do (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return; sleep 0.1; done; echo "no server on port $1" >&2; return 1; }

# RECIPE MODE [OPTION...]: builds out/RECIPE-MODE and starts its server; sets `url` to what the guest's bw.root= is.
serve() {
    local recipe=$1 mode=$2 image=$out/$1-$2 port dir=$work/server-$2
    build --recipe "$recipe" --root "$mode" "${@:3}" >/dev/null
    image=$(realpath "$image")
    port=$(free_port)
    rm -rf "$dir"; mkdir -p "$dir"
    [ ! -d "$image/servers" ] || cp "$image"/servers/* "$dir/"
    find "$dir" -type f -exec sed -i "s|/srv/bootwright/$recipe-$mode|$image|g" {} +
    case $mode in
    nbd)
        sed -i "s/10809/$port/" "$dir/qemu-nbd.sh"
        sh "$dir/qemu-nbd.sh" >"$dir/log" 2>&1 & servers+=($!)
        url=nbd://10.0.2.2:$port/$recipe ;;
    iscsi)
        # A socket's path is short (unix(7)): the folder of the measurements may be too deep.
        tgt_folder=$(mktemp -d)
        export TGT_IPC_SOCKET=$tgt_folder/tgt
        tgtd -f --iscsi "portal=127.0.0.1:$port" >"$dir/log" 2>&1 & servers+=($!)
        await_port "$port"
        sh "$dir/tgtadm.sh"
        url=iscsi://10.0.2.2:$port/iqn.2024-07.internal.bootwright:$recipe ;;
    nfs)
        cat >"$dir/ganesha.conf" <<EOF
NFS_CORE_PARAM { Protocols = 4; NFS_Port = $port; Bind_addr = 127.0.0.1; Enable_NLM = false; Enable_RQUOTA = false; }
NFSv4 { Graceless = true; Only_Numeric_Owners = true; RecoveryBackend = fs; RecoveryRoot = $(realpath "$dir"); }
EXPORT { Export_Id = 1; Path = $image/root; Pseudo = /root; Protocols = 4; Transports = TCP; Access_Type = RO;
         Squash = No_Root_Squash; SecType = sys; PrivilegedPort = false; FSAL { Name = VFS; } }
EOF
        ganesha.nfsd -F -f "$dir/ganesha.conf" -L "$dir/log" -p "$dir/pid" & servers+=($!)
        url=nfs://10.0.2.2:$port/root ;;
    esac
    await_port "$port"
}

# MODE RAM: guest uptime at which kubelet is healthy with that root.
healthy_over() {
    "$bootwright" smoke --quiet --recipe worker-small --root "$1" --out "$out" --ram-mib "$2" --append "bw.root=$url" --until kubelet-healthy --json |
        kubelet_uptime
}

netroot() {
    netroot_sizes
    netroot_dracut
    netroot_pid1
    netroot_recovery
    netroot_boots
}

netroot_sizes() {
    local mode
    for mode in http nfs iscsi nbd; do
        build --recipe worker-small --root "$mode" >/dev/null
        row "worker-small-$mode: initrd" "$(stat -c %s "$out/worker-small-$mode/initrd.img" | awk '{ printf "%.2f MB", $1 / 1e6 }')" "at most 3 MB"
    done
}

# dracut with its defaults and the modules that are in our initrd, no others: it has less to look through than usual.
netroot_dracut() {
    local tree=$work/dracut release drivers ours=() theirs=()
    build --recipe worker-small --root nbd >/dev/null
    rm -rf "$tree"; mkdir -p "$tree"
    # zstd takes the zeros after the frame for a damaged one.
    { zstd -qdc "$out/worker-small-nbd/segments/boot.cpio.zst" 2>/dev/null || true; } | (cd "$tree" && cpio -idm --quiet)
    release=$(ls "$tree/lib/modules")
    # depmod wants these lists, which say nothing about modules that are there.
    touch "$tree/lib/modules/$release/modules."{order,builtin.modinfo}
    depmod -b "$tree" "$release"
    drivers=$(find "$tree/lib/modules" -name '*.ko' -printf '%f\n' | sed 's/\.ko$//' | sort | tr '\n' ' ')
    for _ in 1 2 3; do
        theirs+=("$(seconds dracut --quiet --force --no-hostonly --no-hostonly-cmdline --modules "base kernel-modules kernel-network-modules" --kver "$release" \
            --kmoddir "$tree/lib/modules/$release" --drivers "$drivers" "$work/dracut.img")")
    done
    for _ in 1 2 3 4 5; do
        rm -rf "$out/worker-small-nbd"
        ours+=("$(seconds "$bootwright" build --quiet --recipe worker-small --root nbd --out "$out")")
    done
    local mine yours
    mine=$(median "${ours[@]}"); yours=$(median "${theirs[@]}")
    row "worker-small-nbd: whole image from warm caches" "$mine s" "at least 50 times faster than dracut"
    row "  dracut with the same modules" "$yours s" "ratio $(awk -v a="$yours" -v b="$mine" 'BEGIN { printf "%.0f", a / b }'), $(stat -c %s "$work/dracut.img" | awk '{ printf "%.1f MB", $1 / 1e6 }')"
}

# From the timeline of a boot: all phases but `network` and `time` (DHCP, SNTP), `image` (the server's bytes are read through) and
# `services`, less the time in which they waited for the network and the server.
netroot_pid1() {
    local own=() key=$work/key port rss
    serve worker-small nbd
    for _ in $(seq "$boots"); do
        healthy_over nbd 512 >/dev/null
        own+=("$(python3 - "$out/worker-small-nbd/smoke/timeline.json" <<'EOF'
import json, sys
phases = {p["name"]: p for p in json.load(open(sys.argv[1]))["phases"]}
print(round(sum(p["end_s"] - p["start_s"] - p["waited_s"] for name, p in phases.items() if name not in ("network", "time", "image", "services")), 3))
EOF
)")
    done
    stop_servers
    row "worker-small-nbd: PID1's own time" "$(median "${own[@]}") s" "at most 0.5 s (${own[*]})"
    # The memory of a PID1 that watches a root: rescue has the shell that tells.
    [ -e "$key" ] || ssh-keygen -q -t ed25519 -N "" -f "$key"
    serve rescue nbd --set "ssh_key=$(cat "$key.pub")"
    coproc MACHINE { exec "$bootwright" smoke --quiet --keep --recipe rescue --root nbd --out "$out" --append "bw.root=$url" --json; }
    local line report=""
    while IFS= read -r line <&"${MACHINE[0]}"; do
        report+=$line
        [ "$line" != "}" ] || break
    done
    port=$(python3 -c 'import json,sys; print(json.loads(sys.argv[1])["ssh_port"])' "$report")
    rss=$(ssh -q -i "$key" -p "$port" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null root@127.0.0.1 'grep VmRSS /proc/1/status' | awk '{ print $2 }')
    kill "$MACHINE_PID"; wait "$MACHINE_PID" 2>/dev/null || true
    stop_servers
    row "PID1 resident, NBD root" "$(awk -v k="$rss" 'BEGIN { printf "%.2f MB", k * 1024 / 1e6 }')" "at most 3 MB"
}

# The soak for one root at a time: the longest of its recoveries, from a server that takes connections to bytes that were read from the
# root and written to a volume.
netroot_recovery() {
    local mode report
    for mode in nbd iscsi nfs; do
        report=$(SOAK_MINUTES=2 SOAK_SEED=1 SOAK_ROOTS=$mode cargo test --quiet --locked --test soak 2>/dev/null)
        row "$mode root: longest recovery of I/O" "$(sed -n "s/^$mode .* \([0-9.]*\) s  .*/\1/p" <<<"$report") s" "at most 2 s ($(sed -n "s/^$mode  *\([0-9]*\) .*/\1 kills/p" <<<"$report"))"
    done
}

# The roots take turns, so that a host that gets slower is slower for all of them.
netroot_boots() {
    local mode
    declare -A small large
    for _ in $(seq "$boots"); do
        large[ram]+=" $(healthy worker-small 512)"
        for mode in nbd iscsi nfs; do
            serve worker-small "$mode"
            large[$mode]+=" $(healthy_over "$mode" 512)"
            small[$mode]+=" $(healthy_over "$mode" 128)"
            stop_servers
        done
    done
    for mode in ram nbd iscsi nfs; do
        local middle; middle=$(median ${large[$mode]})
        [ "$mode" != ram ] || local reference=$middle
        row "worker-small, $mode root: kubelet healthy at 512 MiB" "$middle s" "$(awk -v a="$middle" -v b="$reference" 'BEGIN { printf "%.2f", a / b }') of at most 1.2 times the RAM root (${large[$mode]# })"
        [ "$mode" = ram ] || row "worker-small, $mode root: kubelet healthy at 128 MiB" "$(median ${small[$mode]}) s" "at most 25 s (${small[$mode]# })"
    done
}
