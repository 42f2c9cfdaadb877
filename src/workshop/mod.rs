//! The workshop: everything around the container that the chapters do not teach.

pub mod cli;
pub mod doctor;
pub mod errors;
pub mod explain;
pub mod grade;
pub mod lab;
pub mod rootfs;
pub mod witness;
