//! Chapter 5: the network. [`network`] is the story; it is made with [`netlink`], [`address`] and [`nat`].

pub mod address;
pub mod nat;
pub mod netlink;
pub mod network;
pub mod uplink;
