use spoor::{capture::Options, source::live::Live};
use std::time::{Duration, Instant};
fn main() {
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async {
        let t = Instant::now();
        let mut live = Live::start(Options::default()).unwrap_or_else(|e| {
            println!("{e}");
            std::process::exit(1)
        });
        println!("started in {:?}", t.elapsed());
        let until = Instant::now()
            + Duration::from_secs(std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(5));
        let mut out = Vec::new();
        while Instant::now() < until {
            live.next_batch(&mut out).await.unwrap();
            for r in out.drain(..) {
                println!("{r:?}");
            }
        }
        for (n, v) in live.counters().unwrap().iter() {
            println!("{n} {v}");
        }
    });
}
