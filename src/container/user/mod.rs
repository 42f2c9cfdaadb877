//! Chapter 8: users. Who is who, and in which user namespace. (The chapters before need little of it.)
//!
//! A user namespace is a numbering of users and groups, as a PID namespace is one of processes. Its user 0 has every
//! capability over what belongs to the namespace, and is somebody else outside: a number that owns nothing there. The
//! translation is a table of three columns, the map. See user_namespaces(7).
//!
//! - [`person`]: a user, and how to become it;
//! - [`namespace`]: which namespace this is;
//! - [`map`]: the table;
//! - [`maps`]: a container's users, and the two files that say who they are;
//! - [`range`]: numbers that belong to one container alone;
//! - [`subordinate`]: the numbers that an ordinary user may hand out, by newuidmap(1);
//! - [`names`]: the container's own names for its users;
//! - [`keys`]: what a user has besides files.

pub mod keys;
pub mod map;
pub mod maps;
pub mod names;
pub mod namespace;
pub mod person;
pub mod range;
pub mod subordinate;

pub use maps::{Mode, Users};
pub use names::{Name, Wanted};
pub use namespace::{in_first_user_namespace, same_namespace};
pub use person::User;
