//! Where keys go: each position has its one right form, in which the upstream gets the real key there and only there,
//! and beside it every form that is refused.

mod basic;
mod bodies;
mod elsewhere;
mod limits;
mod path;
mod query;
mod stage;
mod together;
