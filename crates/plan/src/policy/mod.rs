//! Export rules as data, and what each says of a part by its figures. Not legal advice: read the text of a rule.
//!
//! Module map: `figures` what rules look at · `condition` thresholds · `rule` a rule and its classes · `classify` what
//! rules say of a part · `book` all rules, with definitions, payments and what is known of chips.

mod book;
mod classify;
mod condition;
mod figures;
mod rule;

pub use book::{ChipStatus, Definition, Event, Knowledge, Payment, RuleBook};
pub use classify::{Line, Outcome, Standing, Verdict};
pub use condition::{Bound, Condition, Threshold};
pub use figures::{Figure, Figures, Need};
pub use rule::{Issuer, Kind, Limit, Rule, RuleClass, Subject};
