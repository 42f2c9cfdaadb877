//! The library behind the workbook *Cooperage*.
//!
//! Three floors, each of which imports only what is below it:
//!
//! - [`workshop`] is what a container is built with: the command line, the root filesystem, the lab, the doctor;
//! - [`container`] is what the reader builds: one file for each kernel feature, in the book's order;
//! - [`told`] is what the reader is told: errors and narration.
//!
//! The plot, that is the order in which a container is put together, is not here: it stands in
//! `chapters/NN-name/main.rs`.

pub mod container;
pub mod told;
pub mod workshop;

/// See Cargo.toml for the reason.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// The Rust that stands in the book's pages is compiled, and run where it can be, by `cargo test --doc`.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../book/src/preface.md")]
    mod preface {}
    #[doc = include_str!("../book/src/setup.md")]
    mod setup {}
    #[doc = include_str!("../book/src/what-a-container-is.md")]
    mod what_a_container_is {}
    #[doc = include_str!("../book/src/01-chroot.md")]
    mod chapter_01 {}
    #[doc = include_str!("../book/src/02-pid.md")]
    mod chapter_02 {}
    #[doc = include_str!("../book/src/03-mount.md")]
    mod chapter_03 {}
    #[doc = include_str!("../book/src/04-uts-ipc.md")]
    mod chapter_04 {}
    #[doc = include_str!("../book/src/05-network.md")]
    mod chapter_05 {}
    #[doc = include_str!("../book/src/06-cgroups.md")]
    mod chapter_06 {}
    #[doc = include_str!("../book/src/07-init.md")]
    mod chapter_07 {}
    #[doc = include_str!("../book/src/08-user.md")]
    mod chapter_08 {}
    #[doc = include_str!("../book/src/09-power.md")]
    mod chapter_09 {}
    #[doc = include_str!("../book/src/10-oci.md")]
    mod chapter_10 {}
    #[doc = include_str!("../book/src/road-ahead.md")]
    mod road_ahead {}
    #[doc = include_str!("../book/src/attacks.md")]
    mod attacks {}
    #[doc = include_str!("../book/src/costs.md")]
    mod costs {}
    #[doc = include_str!("../book/src/cgroup-v1.md")]
    mod cgroup_v1 {}
    #[doc = include_str!("../book/src/system-calls.md")]
    mod system_calls {}
    #[doc = include_str!("../book/src/glossary.md")]
    mod glossary {}
    #[doc = include_str!("../book/src/troubleshooting.md")]
    mod troubleshooting {}
    #[doc = include_str!("../book/src/instructors.md")]
    mod instructors {}
    #[doc = include_str!("../book/src/how-tested.md")]
    mod how_tested {}
}
