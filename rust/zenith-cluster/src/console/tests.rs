use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::time::Instant;

use super::*;

/// Files that are followed, with a pipe in the place of the console.
struct Bench {
    folder: tempfile::TempDir,
    console: Console,
    pipe: io::PipeReader,
}

impl Bench {
    fn new(names: &[&str], texts: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let tail =
            |name: &&str| Tail { file: path(name), stream: TailedStream::Stdout, prefix: format!("[{name}]:").into() };
        let tails: Vec<_> = names.iter().map(tail).collect();
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        let duplicates = [Duplicate { file: path("filtered"), stream: TailedStream::Stdout, texts }];
        let (pipe, write) = io::pipe().expect("a pipe");
        let streams = [write.as_fd(), write.as_fd()];
        let console = Console::start_on(&tails, &duplicates, streams).expect("a console").expect("files to show");
        Self { folder, console, pipe }
    }

    fn append(&self, name: &str, text: &[u8]) {
        let mut file = OpenOptions::new().append(true).open(self.folder.path().join(name)).expect("the file");
        file.write_all(text).expect("room");
    }

    /// What the console got, what the file of chosen lines holds, and what was told at the end.
    fn finish(mut self) -> (String, String, Shown) {
        let reader = thread::Builder::new().spawn(move || {
            let mut all = Vec::new();
            self.pipe.read_to_end(&mut all).map(|_| String::from_utf8_lossy(&all).into_owned())
        });
        let shown = self.console.finish();
        let all = reader.expect("a thread").join().expect("no panic").expect("a pipe");
        (all, std::fs::read_to_string(self.folder.path().join("filtered")).expect("a file"), shown)
    }
}

#[test]
fn lines_are_shown_while_a_file_grows() {
    let mut bench = Bench::new(&["a"], &[]);
    for number in 0..5 {
        bench.append("a", b"begun ");
        bench.append("a", format!("{number}\n").as_bytes());
        let mut line = [0; 12];
        bench.pipe.read_exact(&mut line).expect("a line");
        assert_eq!(line, format!("[a]:begun {number}\n").as_bytes());
    }
    assert_eq!(bench.finish(), (String::new(), String::new(), Shown::default()));
}

#[test]
fn files_are_shown_to_their_ends_and_chosen_lines_copied() {
    let bench = Bench::new(&["a", "b"], &["7", "last"]);
    let body: String = (0..20_000).map(|number| format!("{number}\n")).collect();
    bench.append("a", body.as_bytes());
    bench.append("b", b"the last, without an end");
    let (all, filtered, shown) = bench.finish();
    let of_a: Vec<_> = all.lines().filter(|line| line.starts_with("[a]:")).collect();
    assert_eq!(of_a, (0..20_000).map(|number| format!("[a]:{number}")).collect::<Vec<_>>());
    assert!(all.ends_with("[b]:the last, without an end\n"));
    let sevens = (0..20_000).filter(|number| number.to_string().contains('7')).map(|number| format!("[a]:{number}"));
    let chosen: Vec<_> = sevens.chain(["[b]:the last, without an end".into()]).collect();
    assert_eq!(filtered.lines().collect::<Vec<_>>(), chosen);
    assert_eq!(shown, Shown::default());
}

#[test]
fn a_file_that_is_cut_is_read_anew() {
    let mut bench = Bench::new(&["a"], &[]);
    let mut line = [0; 13];
    bench.append("a", b"longline\n");
    bench.pipe.read_exact(&mut line).expect("a line");
    std::fs::write(bench.folder.path().join("a"), "").expect("a file");
    // The follower notices at its next look, which the cut itself makes it take.
    thread::sleep(Duration::from_millis(50));
    bench.append("a", b"new\n");
    assert_eq!(bench.finish().0, "[a]:new\n");
}

#[test]
fn a_console_that_takes_nothing_ends_nothing() {
    let bench = Bench::new(&["a"], &["x"]);
    // More than the pipe and the memory for what is pending hold.
    bench.append("a", "x\n".repeat(1 << 20).as_bytes());
    let Bench { folder, console, pipe } = bench;
    let start = Instant::now();
    let shown = console.finish();
    assert!(start.elapsed() < STALL_MAX + Duration::from_secs(5), "{:?}", start.elapsed());
    drop(pipe);
    let filtered = std::fs::read_to_string(folder.path().join("filtered")).expect("a file");
    assert_eq!(filtered.lines().count(), 1 << 20, "chosen lines are copied all the same");
    assert!(shown.lost > (1 << 20) - (1 << 16) && shown.lost < 1 << 20, "{shown:?}");
    assert_eq!(shown.errors, Vec::<String>::new());
}

#[test]
fn one_stream_does_not_wait_for_the_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let tail = |name: &str, stream| Tail { file: folder.path().join(name), stream, prefix: String::new().into() };
    let tails = [tail("out", TailedStream::Stdout), tail("err", TailedStream::Stderr)];
    let ((_stuck, stuck_write), (mut read, write)) = (io::pipe().expect("a pipe"), io::pipe().expect("a pipe"));
    let streams = [stuck_write.as_fd(), write.as_fd()];
    let console = Console::start_on(&tails, &[], streams).expect("a console").expect("files to show");
    let text = "x\n".repeat(1 << 20);
    std::fs::write(folder.path().join("out"), &text).expect("a file");
    thread::sleep(Duration::from_millis(100));
    std::fs::write(folder.path().join("err"), &text).expect("a file");
    let mut all = vec![0; text.len()];
    read.read_exact(&mut all).expect("all lines");
    assert!(all == text.as_bytes());
    assert!(console.finish().lost > 0);
}

#[test]
fn a_console_that_goes_away_is_no_error() {
    let bench = Bench::new(&["a"], &[]);
    let Bench { folder, console, pipe } = bench;
    drop(pipe);
    std::fs::write(folder.path().join("a"), "x\n".repeat(1 << 20)).expect("a file");
    assert_eq!(console.finish(), Shown::default());
}
