//! The attacks, one file each.

use crate::Attack;

/// Those that reach for the whole machine: they are tried in one that is thrown away.
pub const OF_THE_MACHINE: [&str; 6] = ["sysrq", "kernel-module", "reboot", "clock", "kexec", "kcore"];

macro_rules! attacks {
    ($($name:ident),* $(,)?) => {
        $(mod $name;)*
        /// Every attack, in the order of the book.
        pub const ATTACKS: &[Attack] = &[$($name::ATTACK),*];
    };
}

attacks![
    leaked_fd,
    leaked_cwd,
    rootfs_links,
    kill_init,
    kill,
    ptrace,
    vm_read,
    proc_root,
    runtime_exe,
    chroot,
    old_root,
    mount_over,
    lower_layer,
    inodes,
    hostname,
    sysv_shm,
    sysv_queue,
    posix_queue,
    posix_shm,
    abstract_socket,
    sniff,
    network_config,
    sysctl_own,
    fork_bomb,
    memory_bomb,
    cpu_hog,
    release_agent,
    zombies,
    umount,
    mknod,
    sysctl_host,
    sys_write,
    cgroup_limit,
    ro_volume,
    volume_other,
    setuid_volume,
    foreign_user,
    nobody_files,
    leaked_userns,
    session_key,
    open_by_handle,
    sysrq,
    kernel_module,
    reboot,
    clock,
    kexec,
    kcore,
    binfmt_misc,
    device_image,
    inherited_caps,
    open_files,
    user_namespace,
    clone3,
    io_uring,
    userfaultfd,
    bpf,
    perf,
    personality,
    key_quota,
    core_dump,
    interrupts,
    set_user_id,
    terminal_input,
    device_volume,
    mask_link,
    mask_race,
    arp_spoof,
    volume_write,
    ptrace_init,
];
