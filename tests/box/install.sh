# Puts Strongroom into a box as a system has it, by hand. Sourced by installed.sh; PROGRAMS is where the programs are.
# What a package does in another way replaces this one function.

repository=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")

# install_strongroom: programs, units, users and directories; nothing is started or enabled.
install_strongroom() {
    install -D -m 0755 -t /usr/lib/strongroom "$PROGRAMS/strongroom-keyd" "$PROGRAMS/strongroom-gatewayd"
    install -m 0755 -t /usr/bin "$PROGRAMS/strongroom"
    install -D -m 0644 -t /usr/lib/systemd/system "$repository"/systemd/*.socket "$repository"/systemd/*.service
    install -D -m 0644 -t /usr/lib/systemd/user "$repository"/systemd/user/*
    install -D -m 0644 "$repository/packaging/strongroom.sysusers" /usr/lib/sysusers.d/strongroom.conf
    install -D -m 0644 "$repository/packaging/strongroom.tmpfiles" /usr/lib/tmpfiles.d/strongroom.conf
    systemd-sysusers strongroom.conf
    systemd-tmpfiles --create strongroom.conf
    systemctl daemon-reload
}
