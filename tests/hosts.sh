# Hosts on one machine, for tests: network, host name and /dev/shm of their own, joined by a bridge; mpirun reaches them
# by nsenter. Sourced by scripts of bash that are root; `hosts_up N` makes host1 ... hostN, of 2 slots each, and
# $hosts/hostfile; `at host1 COMMAND` runs there; `host_down host2` kills all of it, `host_dies host2` empties
# its /dev/shm, too; `host_back host2` lets it answer again; `hosts_finish` ends them. hosts_up returns 77, after a word,
# where that is not allowed.
hosts=$(mktemp -d /tmp/hosts.XXXXXX)
declare -A host_pid

host_processes() { # name: all processes of a host but the one that holds its namespaces
    local ns f
    ns=$(readlink "/proc/${host_pid[$1]}/ns/net") || return 0
    for f in /proc/[0-9]*; do
        [ "${f#/proc/}" = "${host_pid[$1]}" ] || [ "$(readlink "$f/ns/net" 2>/dev/null)" != "$ns" ] || echo "${f#/proc/}"
    done
}
host_down() {
    touch "$hosts/down.$1"
    local pid
    for pid in $(host_processes "$1"); do kill -KILL "$pid" 2>/dev/null || :; done
}
host_dies() { # and what was in its memory
    host_down "$1"
    at "$1" find /dev/shm -mindepth 1 -delete
}
host_back() { rm -f "$hosts/down.$1"; }
hosts_finish() {
    local name
    for name in "${!host_pid[@]}"; do
        host_down "$name"
        kill -KILL "${host_pid[$name]}" 2>/dev/null || :
    done
    rm -rf "$hosts"
}
at() { # host, command
    nsenter -t "${host_pid[$1]}" -n -u -m -- "${@:2}"
}
host_hold() { # name
    unshare -n -u -m bash -c '
        hostname "$1" && ip link set lo up && mount -t tmpfs -o mode=1777 tmpfs /dev/shm &&
        mount --bind "$2/hosts" /etc/hosts && : > "$2/up.$1" && exec sleep infinity' hold "$1" "$hosts" \
        </dev/null >"$hosts/log" 2>&1 &
    local pid=$!
    disown
    for _ in $(seq 100); do
        [ -e "$hosts/up.$1" ] && host_pid[$1]=$pid && return
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    echo "skipped: no namespaces here: $(cat "$hosts/log")"
    return 77
}
hosts_up() { # how many
    local i tool
    [ "$(id -u)" = 0 ] || { echo "skipped: needs root"; return 77; }
    [ -z "${FLAMBEAU_RANK:-}" ] || { echo "skipped: only Open MPI's mpirun is taught the way to these hosts"; return 77; }
    for tool in ip unshare nsenter mpirun; do
        command -v $tool >/dev/null || { echo "skipped: no $tool (launch/setup --cluster)"; return 77; }
    done
    echo '127.0.0.1 localhost' >"$hosts/hosts"
    for i in $(seq "$1"); do echo "10.77.0.$i host$i" >>"$hosts/hosts"; done
    host_hold switch || return
    at switch ip link add br0 type bridge 2>"$hosts/log" || { echo "skipped: no bridge here: $(cat "$hosts/log")"; return 77; }
    at switch ip link set br0 up
    for i in $(seq "$1"); do
        host_hold "host$i" || return
        at switch ip link add "port$i" type veth peer name eth0 netns "${host_pid[host$i]}" 2>"$hosts/log" ||
            { echo "skipped: no veth here: $(cat "$hosts/log")"; return 77; }
        at switch ip link set "port$i" master br0 up
        at "host$i" ip addr add "10.77.0.$i/24" dev eth0
        at "host$i" ip link set eth0 up
        echo "host$i slots=2" >>"$hosts/hostfile"
    done
    # What mpirun runs in place of ssh: rsh HOST COMMAND...
    {
        printf '#!/bin/bash\n[ ! -e "%s/down.$1" ] || exit 255\ncase $1 in\n' "$hosts"
        for i in $(seq "$1"); do echo "host$i) pid=${host_pid[host$i]} ;;"; done
        printf '*) exit 255 ;;\nesac\nshift\nexec nsenter -t $pid -n -u -m -- bash -c "$*"\n'
    } >"$hosts/rsh"
    chmod +x "$hosts/rsh"
    mkdir "$hosts/tmp"
    export OMPI_MCA_plm=rsh OMPI_MCA_plm_rsh_agent=$hosts/rsh OMPI_MCA_oob_tcp_if_include=eth0 \
        OMPI_MCA_btl_tcp_if_include=eth0 OMPI_MCA_btl=self,vader,tcp OMPI_MCA_orte_tmpdir_base=$hosts/tmp
}
