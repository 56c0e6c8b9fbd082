// rust.rs - a Rust program: threads, channels, panics caught, files, time, the heap.
use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::{mpsc, Arc, Barrier, Condvar, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

fn ok(good: bool, what: &str) -> bool {
    println!("{} {}", if good { "ok" } else { "FAIL" }, what);
    good
}

fn main() {
    let mut all = true;
    let counter = Arc::new(Mutex::new(0u64));
    let barrier = Arc::new(Barrier::new(32));
    let handles: Vec<_> = (0..32u64)
        .map(|i| {
            let (c, b) = (counter.clone(), barrier.clone());
            thread::spawn(move || {
                b.wait();
                for _ in 0..500 {
                    *c.lock().unwrap() += i;
                }
                i * i
            })
        })
        .collect();
    let squares: u64 = handles.into_iter().map(|h| h.join().unwrap()).sum();
    all &= ok(*counter.lock().unwrap() == 500 * 496 && squares == 10416, "32 threads");

    let (tx, rx) = mpsc::channel();
    for i in 0..8 {
        let tx = tx.clone();
        thread::spawn(move || (0..1000).for_each(|n| tx.send(i * 1000 + n).unwrap()));
    }
    drop(tx);
    all &= ok(rx.iter().map(|v: u64| v).sum::<u64>() == 7999 * 8000 / 2, "channel");

    std::panic::set_hook(Box::new(|_| {}));
    let caught = thread::spawn(|| {
        let v: Vec<i32> = Vec::new();
        let n = v.len();
        v[n]
    })
    .join()
    .is_err();
    all &= ok(caught, "panic ends one thread");
    all &= ok(std::panic::catch_unwind(|| panic!("here")).is_err(), "catch_unwind");

    let pair = Arc::new((Mutex::new(false), Condvar::new()));
    let p2 = pair.clone();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        *p2.0.lock().unwrap() = true;
        p2.1.notify_all();
    });
    let start = Instant::now();
    let guard = pair.1.wait_while(pair.0.lock().unwrap(), |r| !*r).unwrap();
    all &= ok(*guard && start.elapsed() >= Duration::from_millis(15), "condvar");

    let name = format!("/tmp/rust.{}", std::process::id());
    let data: Vec<u8> = (0..100_000u32).map(|i| (i * 7) as u8).collect();
    std::fs::File::create(&name).unwrap().write_all(&data).unwrap();
    let mut back = Vec::new();
    std::fs::File::open(&name).unwrap().read_to_end(&mut back).unwrap();
    std::fs::remove_file(&name).unwrap();
    all &= ok(back == data, "file");

    let map = RwLock::new(HashMap::new());
    thread::scope(|s| {
        for t in 0..8 {
            let map = &map;
            s.spawn(move || (0..200).for_each(|i| { map.write().unwrap().insert(t * 200 + i, i); }));
        }
    });
    all &= ok(map.read().unwrap().len() == 1600, "scoped threads and a map");
    let big: Vec<String> = (0..20_000).map(|i| format!("{:08}", (i * 7919) % 20_000)).collect();
    let mut sorted = big.clone();
    sorted.sort();
    all &= ok(sorted.windows(2).all(|w| w[0] < w[1]), "heap and sort");
    println!("{}", if all { "PASSED" } else { "FAILED" });
    std::process::exit(if all { 0 } else { 1 });
}
