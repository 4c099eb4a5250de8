//! The same service on other chips: how many it takes, what that costs in power and money, and what is uncertain.
//!
//! A service is tokens/s for a number of requests in flight. At a fixed number of requests, the same tokens/s is the same
//! speed for each user, so both are asked of the other chips at once; how many chips the tokens alone take, with more
//! requests in flight on each, is told apart.
//!
//! Module map: `ask` what is asked · `side` one chip's part · `maturity` what measured runs reach of data sheets · `summary` in plain words, each number with its source · `page` for a reader.

mod ask;
mod maturity;
mod page;
mod side;
mod summary;

pub use ask::{Answer, Ask, AskError, switch};
pub use maturity::{Maturity, maturity};
pub use page::page;
pub use side::{Chips, Cost, Fit, Need, Policy, Service, Side};
pub use summary::{Summary, summary};
