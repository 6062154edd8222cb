//! The board and the API: one picture, one stream, two commands.
//!
//! Viewers need no login; acknowledging and resetting need the operator's token. Nothing here can
//! delay the engine: [`feed`] never waits. Reading order: [`picture`] (what is believed), [`view`]
//! (its JSON), [`feed`], [`hub`] and [`told`] (how it moves), [`routes`] (who may ask what), [`server`].

mod curves;
pub mod feed;
pub mod hub;
pub mod picture;
mod reports;
pub mod routes;
mod server;
pub mod status;
mod stop;
#[cfg(test)]
pub(crate) mod testing;
pub mod token;
mod told;
pub mod view;

pub use feed::Feed;
pub use hub::{Handle, Hub, Now};
pub use picture::{Moment, Picture, item_kind};
pub use routes::{App, Command, Commands, Order, Refusal, build};
pub use server::serve;
pub(crate) use server::serve_routes;
pub use status::Status;
pub use token::Token;
pub use told::FrameId;
