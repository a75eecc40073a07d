//! The machine drawn as SVG: sockets, memory nodes, groups of cores that share a cache, cores, GPUs; coloured by rank.
//!
//! Built from blocks that know their size and are set beside or below each other, so nothing has a position of its own.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{CpuSet, Gpu, Place, Topology};

const GAP: u32 = 8;
const TITLE: u32 = 18;
/// Room for four digits, in the font of `.small`.
const CPU: (u32, u32) = (30, 26);
const CORES_IN_ROW: usize = 8;
const GROUPS_IN_ROW: usize = 4;
/// No text is wider, in pixels for each character.
const CHARACTER: u32 = 8;

/// Colours that stand out in both themes are the same in both: fills of half saturation.
const STYLE: &str = "text{font:12px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328}\
.small{font-size:10px}.mid{text-anchor:middle}.quiet{opacity:.4}\
.paper{fill:#fff}.box{fill:none;stroke:#8c959f}.socket{fill:#f6f8fa;stroke:#8c959f}.node{fill:#fff;stroke:#8c959f}\
.group{fill:none;stroke:#8c959f;stroke-dasharray:3 2}.core{fill:none;stroke:#8c959f}.gpu{fill:#eaeef2;stroke:#57606a}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.paper{fill:#0d1117}.socket{fill:#161b22;stroke:#6e7681}\
.node{fill:#0d1117;stroke:#6e7681}.box,.group,.core{stroke:#6e7681}.gpu{fill:#30363d;stroke:#8b949e}}";

/// `places` by local rank.
pub fn picture(topology: &Topology, places: &[Place]) -> String {
    let drawing = Drawing { topology, places };
    let whole = below(vec![drawing.machine(), drawing.legend()]);
    let (width, height) = (whole.width + 2 * GAP, whole.height + 2 * GAP);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\">\n<title>Placement of ranks</title>\n<style>{STYLE}</style>\n\
         <rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>\n{}</svg>\n",
        moved(GAP, GAP, &whole.svg)
    )
}

#[derive(Debug, Clone, Default)]
struct Block {
    width: u32,
    height: u32,
    svg: String,
}

fn moved(x: u32, y: u32, svg: &str) -> String {
    format!("<g transform=\"translate({x} {y})\">{svg}</g>\n")
}

fn beside(blocks: Vec<Block>, gap: u32) -> Block {
    let mut all = Block::default();
    for block in blocks {
        let x = if all.width == 0 { 0 } else { all.width + gap };
        all.svg += &moved(x, 0, &block.svg);
        all.width = x + block.width;
        all.height = all.height.max(block.height);
    }
    all
}

fn below(blocks: Vec<Block>) -> Block {
    let mut all = Block::default();
    for block in blocks.into_iter().filter(|block| block.height > 0) {
        let y = if all.height == 0 { 0 } else { all.height + GAP };
        all.svg += &moved(0, y, &block.svg);
        all.height = y + block.height;
        all.width = all.width.max(block.width);
    }
    all
}

fn in_rows(blocks: Vec<Block>, columns: usize, gap: u32) -> Block {
    below(blocks.chunks(columns).map(|row| beside(row.to_vec(), gap)).collect())
}

/// A box with a title around something.
fn framed(class: &str, title: &str, inner: Block) -> Block {
    let top = if title.is_empty() { GAP } else { GAP + TITLE };
    let width = (inner.width + 2 * GAP).max(text_width(title) + 2 * GAP);
    let height = inner.height + top + GAP;
    let mut svg = format!("<rect class=\"{class}\" width=\"{width}\" height=\"{height}\" rx=\"4\"/>");
    if !title.is_empty() {
        let _ = write!(svg, "<text x=\"{GAP}\" y=\"{TITLE}\">{}</text>", escaped(title));
    }
    svg += &moved(GAP, top, &inner.svg);
    Block { width, height, svg }
}

fn text_width(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX / CHARACTER).saturating_mul(CHARACTER)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Hues in steps of the golden angle, so that neighbours differ however many ranks there are.
fn colour(rank: usize) -> String {
    let hue = (rank as f64 * 137.508 + 210.0) % 360.0;
    let channel = |shift: f64| {
        let distance = ((hue / 60.0 + shift) % 6.0 - 3.0).abs() - 1.0;
        (70.0 + 150.0 * distance.clamp(0.0, 1.0)) as u8
    };
    format!("#{:02x}{:02x}{:02x}", channel(0.0), channel(4.0), channel(2.0))
}

struct Drawing<'a> {
    topology: &'a Topology,
    places: &'a [Place],
}

impl Drawing<'_> {
    fn machine(&self) -> Block {
        let mut sockets: BTreeMap<(bool, Option<u32>), Vec<Block>> = BTreeMap::new();
        for (&number, node) in &self.topology.nodes {
            let gpus = self.gpus(|gpu| gpu.node == Some(number));
            let inner = below(vec![self.groups(&node.cpus), gpus]);
            let title =
                if node.cpus.is_empty() { format!("node {number}: memory alone") } else { format!("node {number}") };
            let socket = self.topology.socket_of(number);
            // Those without one come last.
            sockets.entry((socket.is_none(), socket)).or_default().push(framed("node", &title, inner));
        }
        let in_nodes: CpuSet = self.topology.nodes.values().flat_map(|node| node.cpus.iter()).collect();
        let others: CpuSet = self.topology.cpus.keys().copied().filter(|&cpu| !in_nodes.contains(cpu)).collect();
        let mut blocks: Vec<Block> = sockets
            .into_iter()
            .map(|((_, socket), nodes)| match socket {
                Some(socket) => framed("socket", &format!("socket {socket}"), below(nodes)),
                None => below(nodes),
            })
            .collect();
        if !others.is_empty() {
            blocks.push(framed("node", "in no memory node", self.groups(&others)));
        }
        let elsewhere = self.gpus(|gpu| gpu.node.is_none_or(|node| !self.topology.nodes.contains_key(&node)));
        if elsewhere.height > 0 {
            blocks.push(framed("box", "GPUs whose node is not told", elsewhere));
        }
        beside(blocks, GAP)
    }

    /// Cores by the cache that they share, in a box each where there are several.
    fn groups(&self, cpus: &CpuSet) -> Block {
        let mut groups: BTreeMap<Option<u32>, CpuSet> = BTreeMap::new();
        for cpu in cpus.iter() {
            let cache = self.topology.cpus.get(&cpu).and_then(|known| known.cache);
            groups.entry(cache).or_default().insert(cpu);
        }
        // Groups of one core each are no groups.
        let is_alone = groups.len() == 1 || groups.values().all(|group| self.topology.cores(group).len() == 1);
        if is_alone {
            groups = [(None, cpus.clone())].into();
        }
        let cores = |group: CpuSet| {
            let cores = self.topology.cores(&group).into_values().map(|core| self.core(&core)).collect();
            // Groups stand beside each other, so each is half as wide.
            in_rows(cores, if is_alone { CORES_IN_ROW } else { CORES_IN_ROW / 2 }, GAP / 2)
        };
        let boxed = |group| if is_alone { cores(group) } else { framed("group", "", cores(group)) };
        in_rows(groups.into_values().map(boxed).collect(), GROUPS_IN_ROW, GAP)
    }

    /// Its CPUs side by side: the number, and the colours of the ranks that are bound to it.
    fn core(&self, cpus: &CpuSet) -> Block {
        let (width, height) = CPU;
        let cell = |cpu: u32| {
            let ranks: Vec<usize> = self.ranks_on(cpu);
            let mut svg = String::new();
            for (index, &rank) in ranks.iter().enumerate() {
                let count = ranks.len() as f64;
                let (x, part) = (f64::from(width) * index as f64 / count, f64::from(width) / count);
                let fill = colour(rank);
                let _ = write!(
                    svg,
                    "<rect x=\"{x:.1}\" width=\"{part:.1}\" height=\"{height}\" fill=\"{fill}\" fill-opacity=\".3\"/>\
                     <rect x=\"{x:.1}\" y=\"{}\" width=\"{part:.1}\" height=\"7\" fill=\"{fill}\"/>",
                    height - 7
                );
            }
            let class = if self.topology.allowed.contains(cpu) { "small mid" } else { "small mid quiet" };
            let _ = write!(svg, "<text class=\"{class}\" x=\"{}\" y=\"13\">{cpu}</text>", width / 2);
            Block { width, height, svg }
        };
        let mut core = beside(cpus.iter().map(cell).collect(), 0);
        let _ = write!(core.svg, "<rect class=\"core\" width=\"{}\" height=\"{}\"/>", core.width, core.height);
        core
    }

    fn ranks_on(&self, cpu: u32) -> Vec<usize> {
        let is_on = |place: &Place| place.binding.as_ref().is_some_and(|binding| binding.cpus.contains(cpu));
        (0..self.places.len()).filter(|&rank| is_on(&self.places[rank])).collect()
    }

    fn gpus(&self, is_wanted: impl Fn(&Gpu) -> bool) -> Block {
        let gpu = |gpu: &Gpu| {
            let uses = |place: &Place| place.gpu.as_ref().is_some_and(|own| own.address == gpu.address);
            let ranks: Vec<usize> = (0..self.places.len()).filter(|&rank| uses(&self.places[rank])).collect();
            let model = gpu.model.as_deref().map(|model| model.trim_start_matches("NVIDIA "));
            let name = format!("GPU {}", model.unwrap_or("of a model not told"));
            let whose = match &ranks[..] {
                [] => "no rank".into(),
                ranks => format!("rank {}", ranks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
            };
            let whose = format!("{}: {whose}", gpu.address);
            let width = text_width(&name).max(text_width(&whose)) + 2 * GAP;
            let mut svg = format!(
                "<rect class=\"gpu\" width=\"{width}\" height=\"44\" rx=\"4\"/><text x=\"{GAP}\" y=\"16\">{}</text>\
                 <text class=\"small\" x=\"{GAP}\" y=\"30\">{whose}</text>",
                escaped(&name)
            );
            for (index, &rank) in ranks.iter().enumerate() {
                let part = f64::from(width) / ranks.len() as f64;
                let (x, fill) = (part * index as f64, colour(rank));
                let _ = write!(svg, "<rect x=\"{x:.1}\" y=\"37\" width=\"{part:.1}\" height=\"7\" fill=\"{fill}\"/>");
            }
            Block { width, height: 44, svg }
        };
        in_rows(self.topology.gpus.iter().filter(|gpu| is_wanted(gpu)).map(gpu).collect(), GROUPS_IN_ROW, GAP)
    }

    fn legend(&self) -> Block {
        let line = |(rank, place): (usize, &Place)| {
            let what = match &place.binding {
                Some(binding) => format!("rank {rank}: {binding} ({})", place.reason),
                None => format!("rank {rank}: {}", place.reason),
            };
            let fill = colour(rank);
            let svg = format!(
                "<rect class=\"core\" width=\"14\" height=\"14\" style=\"fill:{fill}\"/><text x=\"22\" y=\"12\">{}</text>",
                escaped(&what)
            );
            Block { width: 22 + text_width(&what), height: 14, svg }
        };
        let note = "Pale numbers are CPUs that may not be used.";
        let svg = format!("<text y=\"12\">{note}</text>");
        let note = (!self.topology.cpus.keys().all(|&cpu| self.topology.allowed.contains(cpu))).then_some(Block {
            width: text_width(note),
            height: 14,
            svg,
        });
        below(self.places.iter().enumerate().map(line).chain(note).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::Binding;

    #[test]
    fn every_cpu_is_drawn_once_and_bound_ones_in_the_colours_of_their_ranks() {
        let topology = crate::placement::tests::recorded("dual-socket");
        let gpus = topology.gpus.clone();
        let places =
            crate::placement::bind(&topology, &gpus, crate::placement::Mode::named("node"), 2).expect("places");
        let svg = picture(&topology, &places);
        for cpu in topology.cpus.keys() {
            assert_eq!(svg.matches(&format!(">{cpu}</text>")).count(), 1, "CPU {cpu}");
        }
        for (rank, place) in places.iter().enumerate() {
            let cpus = place.binding.as_ref().map_or(0, |binding| binding.cpus.len());
            // A tint and a bar for each CPU, a bar for the GPU; the legend has a style.
            assert_eq!(svg.matches(&format!("fill=\"{}\"", colour(rank))).count(), 2 * cpus + 1, "rank {rank}");
        }
        for word in ["socket 0", "socket 1", "node 0", "node 1", "rank 1: CPUs 8-15,24-31, memory of node 1"] {
            assert!(svg.contains(word), "{word}");
        }
        assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
    }

    #[test]
    fn names_do_not_become_markup_and_nothing_is_still_a_picture() {
        let gpu = Gpu { model: Some("<b>&".into()), ..Gpu::default() };
        let place = Place { gpu: Some(gpu.clone()), ..Place::default() };
        let svg = picture(&Topology { gpus: vec![gpu], ..Topology::default() }, &[place]);
        assert!(svg.contains("GPU &lt;b&gt;&amp;"), "{svg}");
        assert!(picture(&Topology::default(), &[]).ends_with("</svg>\n"));
        let binding = Binding { cpus: [5].into_iter().collect(), memory_node: None };
        assert!(
            picture(&Topology::default(), &[Place { binding: Some(binding), ..Place::default() }]).contains("CPUs 5")
        );
    }
}
