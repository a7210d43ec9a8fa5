//! The live view: each member with bars for its share of the connections and for
//! its queue.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Gauge, Paragraph};

use super::look::{Look, Rates, share};
use super::text;
use crate::cli::report::escaped;
use crate::sockets::{Group, Member};

/// The least width of a bar, with a space before it.
const BAR: usize = 16;

/// Draws one look.
pub(super) fn draw(frame: &mut Frame<'_>, look: &Look, rates: &Rates) {
    let [head, body] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(frame.area());
    let title = Line::from(vec!["reuseport status".bold(), "   q ends".dim()]);
    frame.render_widget(title, head);
    let all = look.spaces.iter().flat_map(|space| &space.groups);
    let all: Vec<&Member> = all.flat_map(|group| &group.members).collect();
    let longest = |text: &dyn Fn(&Member) -> String| {
        let all = all.iter().map(|member| text(member).chars().count());
        all.max().unwrap_or(0)
    };
    let mut rows = Rows {
        frame,
        left: body,
        name: longest(&|member| name(look, member)),
        numbers: longest(&|member| numbers(rates, member)),
    };
    let mut is_empty = true;
    for space in look.spaces.iter().filter(|one| !one.groups.is_empty()) {
        is_empty = false;
        if let Some(namespace) = &space.namespace {
            rows.line(Line::from(format!("network namespace {}", text::name(namespace))).bold());
        }
        for group in &space.groups {
            rows.line(Line::from(text::heading(group)).bold());
            for member in &group.members {
                rows.member(look, rates, group, member);
            }
            for warning in &group.warnings {
                let warning = escaped(&warning.to_string());
                rows.line(Line::from(format!("  warning: {warning}")).fg(Color::Yellow));
            }
        }
    }
    if is_empty {
        rows.line(Line::from("no groups"));
    }
    for why in &look.unseen {
        rows.line(Line::from(format!("warning: {why}")).fg(Color::Yellow));
    }
}

/// Lines from the top down, as long as there is room.
struct Rows<'a, 'b> {
    frame: &'a mut Frame<'b>,
    left: Rect,
    /// The widths of the longest name and numbers.
    name: usize,
    numbers: usize,
}

/// What of `member` is worth a number: its rate, and what was dropped.
fn numbers(rates: &Rates, member: &Member) -> String {
    let rate = rates.get(&member.inode).map(|rate| format!("{rate:.1}/s"));
    let drops = member.drops.filter(|drops| *drops > 0);
    let drops = drops.map(|drops| format!("{drops} dropped"));
    let all: Vec<String> = rate.into_iter().chain(drops).collect();
    all.join(", ")
}

/// Who `member` is, indented.
fn name(look: &Look, member: &Member) -> String {
    format!("  {}", text::who(look, member))
}

impl Rows<'_, '_> {
    fn next(&mut self) -> Option<Rect> {
        let area = self.left;
        if area.height == 0 {
            return None;
        }
        self.left = Rect::new(area.x, area.y + 1, area.width, area.height - 1);
        Some(Rect::new(area.x, area.y, area.width, 1))
    }

    fn line(&mut self, line: Line<'_>) {
        if let Some(area) = self.next() {
            self.frame.render_widget(line, area);
        }
    }

    fn member(&mut self, look: &Look, rates: &Rates, group: &Group, member: &Member) {
        let mut name = Line::from(name(look, member));
        let mut width = self.name;
        if width + 2 * BAR + self.numbers + 1 > usize::from(self.left.width) {
            // One that has no room beside the rest gets a line of its own, whole.
            self.line(std::mem::take(&mut name));
            width = 2;
        }
        let Some(area) = self.next() else {
            return;
        };
        let fixed = |width| Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX));
        let bar = Constraint::Fill(1);
        let columns = [fixed(width), bar, bar, fixed(self.numbers)];
        let [who, connections, queue, rest] = Layout::horizontal(columns).spacing(1).areas(area);
        self.frame.render_widget(name, who);
        if let Some(count) = member.established {
            let part = share(group, member).unwrap_or(0.0);
            let label = text::connections(count);
            self.bar(connections, part, label, Color::Blue);
        }
        if let Some(limit) = member.limit {
            let part = f64::from(member.queue) / f64::from(limit.max(1));
            let colour = if part < 0.8 { Color::Green } else { Color::Red };
            let label = format!("queue {}/{limit}", member.queue);
            self.bar(queue, part, label, colour);
        } else {
            let label = format!("queue {} bytes", member.queue);
            self.frame.render_widget(Paragraph::new(label), queue);
        }
        self.frame
            .render_widget(Paragraph::new(numbers(rates, member)), rest);
    }

    fn bar(&mut self, area: Rect, part: f64, label: String, colour: Color) {
        let gauge = Gauge::default()
            .ratio(part.clamp(0.0, 1.0))
            .label(Span::raw(label))
            .gauge_style(Style::new().fg(colour).bg(Color::DarkGray));
        self.frame.render_widget(gauge, area);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Protocol;
    use crate::sockets::Warning;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn member(inode: u64, established: usize, queue: u32) -> Member {
        Member {
            inode,
            processes: vec![100],
            command: Some("nginx".into()),
            established: Some(established),
            queue,
            limit: Some(10),
            drops: Some(2),
        }
    }

    #[test]
    fn members_have_bars_for_their_share_and_their_queue() {
        let group = Group {
            protocol: Protocol::Tcp,
            address: "127.0.0.1:80".parse().expect("an address"),
            interface: 0,
            is_v6_only: false,
            user: 33,
            members: vec![member(1, 30, 0), member(2, 10, 9)],
            warnings: vec![Warning::Skew],
        };
        let look = Look::of(vec![group]);
        let mut terminal = Terminal::new(TestBackend::new(80, 5)).expect("a screen");
        let rates = Rates::from([(2, 12.5)]);
        terminal
            .draw(|frame| draw(frame, &look, &rates))
            .expect("drawn");
        let screen = terminal.backend().buffer();
        let row = |y| -> String { (0..80).map(|x| screen[(x, y)].symbol()).collect() };
        assert!(row(1).starts_with("tcp 127.0.0.1:80: 2 sockets, user 33"));
        assert!(row(2).starts_with("  nginx 100 "), "{}", row(2));
        for (y, words) in [
            (2, ["30 conn", "queue 0/10"]),
            (3, ["10 conn", "queue 9/10"]),
        ] {
            for word in words {
                assert!(row(y).contains(word), "{}", row(y));
            }
        }
        assert!(row(3).contains("12.5/s"), "{}", row(3));
        assert!(row(4).starts_with("  warning: connections are spread"));
        // Three quarters of the first bar are filled, one of the second.
        let filled = |y| {
            let is_filled = |x: &u16| {
                let cell = &screen[(*x, y)];
                cell.bg == Color::Blue || (cell.symbol() == "█" && cell.fg == Color::Blue)
            };
            (0..80).filter(is_filled).count()
        };
        assert!(filled(2) > filled(3) && filled(3) > 0);
        // A queue that is almost full is red.
        assert!((0..80).any(|x| screen[(x, 3)].fg == Color::Red));
        // A name that is too long for its column has a line of its own, to its end.
        let mut long = member(3, 1, 0);
        long.processes = (1_000_000..1_000_005).collect();
        let mut group = look.spaces[0].groups[0].clone();
        group.members.push(long);
        let crowded = Look::of(vec![group]);
        let mut terminal = Terminal::new(TestBackend::new(80, 9)).expect("a screen");
        terminal
            .draw(|frame| draw(frame, &crowded, &rates))
            .expect("drawn");
        let screen = terminal.backend().buffer();
        let row = |y| -> String { (0..80).map(|x| screen[(x, y)].symbol()).collect() };
        let words = "  nginx 1000000 1000001 1000002 1000003 1000004 ";
        assert!(row(6).starts_with(words), "{}", row(6));
        assert!(row(7).contains("queue 0/10"), "{}", row(7));
        // What there is no room for is left out.
        let mut terminal = Terminal::new(TestBackend::new(20, 2)).expect("a screen");
        terminal
            .draw(|frame| draw(frame, &look, &rates))
            .expect("drawn");
    }
}
