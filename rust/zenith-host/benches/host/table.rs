//! Contenders by turns, and a line for each.

/// How often every contender runs.
pub(crate) const TURNS: usize = 9;

/// A name, and one turn of it: what it measured.
pub(crate) type Contender<'a> = (&'a str, &'a mut dyn FnMut() -> f64);

/// Runs the contenders by turns, and prints the median, the least and the most of each.
pub(crate) fn print(title: &str, contenders: &mut [Contender<'_>]) {
    let mut found = vec![Vec::with_capacity(TURNS); contenders.len()];
    for _ in 0..TURNS {
        for ((_, turn), figures) in contenders.iter_mut().zip(&mut found) {
            figures.push(turn());
        }
    }
    println!("{title}");
    for ((name, _), figures) in contenders.iter().zip(&mut found) {
        figures.sort_by(f64::total_cmp);
        let (least, median, most) = (figures[0], figures[TURNS / 2], figures[TURNS - 1]);
        println!("  {name:<44} {median:>10.1}  ({least:.1} to {most:.1})");
    }
    println!();
}
