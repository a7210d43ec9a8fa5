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

/// The widths of a member's columns: who it is, its share, its queue, numbers.
const COLUMNS: [Constraint; 4] = [
    Constraint::Fill(3),
    Constraint::Fill(2),
    Constraint::Fill(2),
    Constraint::Length(34),
];

/// Draws one look.
pub(super) fn draw(frame: &mut Frame<'_>, look: &Look, rates: &Rates) {
    let [head, body] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(frame.area());
    let title = Line::from(vec!["reuseport status".bold(), "   q ends".dim()]);
    frame.render_widget(title, head);
    let mut rows = Rows { frame, left: body };
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
        let Some(area) = self.next() else {
            return;
        };
        let [who, connections, queue, numbers] = Layout::horizontal(COLUMNS).spacing(1).areas(area);
        let name = format!("  {}", text::who(look, member));
        self.frame.render_widget(Paragraph::new(name), who);
        if let Some(count) = member.established {
            let part = share(group, member).unwrap_or(0.0);
            let label = format!("{count} connections");
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
        let rate = rates.get(&member.inode).map(|rate| format!("{rate:.1}/s"));
        let drops = member.drops.filter(|drops| *drops > 0);
        let drops = drops.map(|drops| format!("{drops} dropped"));
        let all: Vec<String> = rate.into_iter().chain(drops).collect();
        self.frame
            .render_widget(Paragraph::new(all.join(", ")), numbers);
    }

    fn bar(&mut self, area: Rect, part: f64, label: String, colour: Color) {
        let gauge = Gauge::default()
            .ratio(part.clamp(0.0, 1.0))
            .label(Span::raw(label))
            .gauge_style(Style::new().fg(colour).bg(Color::DarkGray));
        self.frame.render_widget(gauge, area);
    }
}
