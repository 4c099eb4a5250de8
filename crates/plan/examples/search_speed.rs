//! How fast training is searched: configurations a second, of the closed forms and with corrections.
//!
//! `cargo run --release -p autarky-plan --example search_speed`

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use autarky_plan::Catalog;
use autarky_plan::fit::Predictor;
use autarky_plan::model::Model;
use autarky_plan::predict::{Device, Format};
use autarky_plan::search::{TrainAsk, physics_search, train};

fn main() -> Result<(), Box<dyn Error>> {
    let chip = Arc::new(Catalog::built_in()?.find("nvidia-h100-sxm")?.clone());
    let predictor = Predictor::built_in()?;
    let e = predictor.training_efficiencies();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} cores");
    for (name, count) in [
        ("meta-llama/Llama-3.1-70B", 1024.0),
        ("meta-llama/Meta-Llama-3.1-405B", 16384.0),
        ("deepseek-ai/DeepSeek-V3", 4096.0),
    ] {
        let model = Model::open(name)?;
        let mut ask = TrainAsk::new(Format::named("bf16").ok_or("bf16")?);
        ask.global_batch = if count > 1000.0 { 4096.0 } else { 1024.0 };
        let device = Device::of(&chip, &ask.format, &ask.stack)?;
        // One search takes milliseconds.
        let (start, mut considered, mut rounds) = (Instant::now(), 0, 0u32);
        while start.elapsed().as_secs_f64() < 1.0 {
            considered += physics_search(&model, &device, count, &ask, &e).1;
            rounds += 1;
        }
        let closed = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let results = train(predictor, &model, &chip, count, &ask)?;
        let whole = start.elapsed().as_secs_f64();
        println!(
            "{name} on {count} chips: {} configurations timed, {:.0}/s a core; a search with corrections {whole:.3} s",
            considered / u64::from(rounds.max(1)),
            considered as f64 / closed / cores as f64
        );
        if let Some(p) = results.plans.first() {
            println!(
                "  {:?}\n  {:.0} tokens/s on {} chips, {:?}",
                p.training,
                p.tokens_per_s(),
                p.chips,
                p.prediction
            );
        }
    }
    Ok(())
}
