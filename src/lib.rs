//! The library behind the workbook *Cooperage*.
//!
//! [`container`] is what the reader builds: one file for each kernel feature, in the book's order.
//! [`workshop`] is what it is built with: the command line, the narration, the errors, the root
//! filesystem, the lab and the doctor.
//!
//! The plot, that is the order in which a container is put together, is not here: it stands in
//! `chapters/NN-name/main.rs`.

pub mod container;
pub mod workshop;
