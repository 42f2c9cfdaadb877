//! Chapter 10: the standard. What an OCI runtime is: five commands, and a file that says what each container is to be.
//!
//! The file is config.json of the runtime specification. Every field of it is a step that one of the chapters before has taught;
//! what they have made is in `cooperage::container`, and is called from here.
//!
//! - [`cli`]: the command line, which is runc's;
//! - [`bundle`]: a directory with a config.json, read and checked;
//! - [`record`]: what is known of a container between two commands;
//! - [`systemd`]: who makes cgroups where it runs;
//! - [`namespaces`]: which are new, and which are somebody else's;
//! - [`cgroups`] and [`resources`]: the places of its cgroups, and what is written there;
//! - [`idmaps`]: mounts whose files belong to others;
//! - [`root`], [`mounts`], [`devices`] and [`paths`]: what its root directory is made of;
//! - [`command`]: how a process becomes the command;
//! - [`hooks`]: programs of others, at six points of its life;
//! - [`create`], [`start`], [`exec`] and [`lifecycle`]: the commands;
//! - [`report`]: what is printed, and [`log`]: what went wrong.

pub mod bundle;
pub mod cgroups;
pub mod cli;
pub mod command;
pub mod create;
pub mod devices;
pub mod exec;
pub mod hooks;
pub mod idmaps;
pub mod lifecycle;
pub mod log;
pub mod mounts;
pub mod namespaces;
pub mod paths;
pub mod record;
pub mod report;
pub mod resources;
pub mod root;
pub mod start;
pub mod systemd;
