//! `autarky plan`

mod chip;
mod chips;
mod claims;
mod fit;
mod fleet;
mod here;
mod page;
mod policy;
mod refused;
mod rules;
mod serve;
mod switch;
mod table;
mod train;
mod validate;
mod verdict;

use anyhow::Result;

use crate::args::PlanCommand;

pub(super) fn run(command: &PlanCommand) -> Result<()> {
    match command {
        PlanCommand::Chips(args) => chips::run(args),
        PlanCommand::Chip(args) => chip::run(args),
        PlanCommand::Rules(args) => rules::run(args),
        PlanCommand::Policy(args) => policy::run(args),
        PlanCommand::Claims(args) => claims::run(args),
        PlanCommand::Switch(args) => switch::run(args),
        PlanCommand::Fleet(args) => fleet::run(args),
        PlanCommand::Fit(args) => fit::run(args),
        PlanCommand::Serve(args) => serve::run(args),
        PlanCommand::Train(args) => train::run(args),
        PlanCommand::Here(args) => here::run(args),
        PlanCommand::Validate(args) => validate::run(args),
    }
}
