use super::*;

/// The whole list, when its path is given: `LITELLM_LIST=path cargo test --lib whole_list -- --nocapture`.
#[test]
#[ignore = "reads a file that is not in the repository"]
fn the_whole_list_is_read() {
    let path = std::env::var("LITELLM_LIST").expect("LITELLM_LIST names the file");
    let bytes = std::fs::read(path).expect("the list can be read");
    let start = std::time::Instant::now();
    let import = parse(
        &bytes,
        &Origin {
            source: "litellm",
            date: "2026-11-20",
        },
    )
    .expect("it is a list");
    println!("{import} in {:?}", start.elapsed());
    for (name, reason) in &import.skipped {
        println!("  {name}: {reason}");
    }
    println!("left out: {:#?}", import.left_out);
}
