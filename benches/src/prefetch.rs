//! How many requests should a server hold? Two servers, one queue, work of two lengths, and three prefetches, measured on
//! the built-in broker. `docs/15-prefetch.md` reads the numbers.
//!
//! ```text
//! cargo run --release --manifest-path benches/Cargo.toml --bin prefetch -- --plot docs/prefetch.svg
//! ```
//!
//! Work is sleep, so the servers take nothing from each other, and the same work takes the same time on any machine. Each
//! run has a broker of its own. All three experiments take about 40 s.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use amqp_rpc::{
    broker::Broker,
    client::{Channel, ConnectOptions, Connection, Consumer},
    codec::{QueueDeclare, ShortString},
};
use amqp_rpc_benches::{
    plot::{COLOURS, INK, owned},
    work::Outcome,
};
use clap::{Parser, ValueEnum};
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex, split},
    net::TcpStream,
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

const QUEUE: ShortString = ShortString::literal("jobs");

/// How busy the two servers are when jobs come one by one.
const LOAD: f64 = 0.8;

/// No run takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Parser)]
struct Arguments {
    /// How many jobs a server may hold, one run for each number; 0 is no limit (QOS-1).
    #[arg(long, value_delimiter = ',', default_value = "1,10,0")]
    prefetch: Vec<u16>,
    /// How many jobs two servers share.
    #[arg(long, default_value_t = 200)]
    jobs: usize,
    /// How long a short job takes, in ms.
    #[arg(long, default_value_t = 20)]
    short: u64,
    /// How long a long job takes, in ms.
    #[arg(long, default_value_t = 200)]
    long: u64,
    /// One job in so many is long.
    #[arg(long, default_value_t = 8)]
    one_in: usize,
    /// Where the long ones stand among the others.
    #[arg(long, default_value = "shuffled")]
    order: Order,
    /// What `shuffled` starts from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long octets take between a broker and a server far away, in ms.
    #[arg(long, default_value_t = 10)]
    distance: u64,
    /// Draw the first two experiments into this file.
    #[arg(long)]
    plot: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Order {
    /// By chance, and by the same chance for the same seed.
    Shuffled,
    /// The first of each `one_in`.
    Regular,
}

#[tokio::main]
async fn main() -> ExitCode {
    match measure(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("prefetch: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &Arguments) -> Outcome<()> {
    let work = work(arguments);
    let total: Duration = work.iter().sum();
    println!(
        "{} jobs: 1 in {} takes {} ms, the others {} ms; {:.2} s of work, {:.2} s for each of two servers",
        work.len(),
        arguments.one_in,
        arguments.long,
        arguments.short,
        total.as_secs_f64(),
        total.as_secs_f64() / 2.0
    );

    println!("\nA backlog: all jobs wait in the queue when the servers come");
    let near = Duration::ZERO;
    let backlog = Experiment {
        work: work.clone(),
        gap: None,
        servers: 2,
        distance: near,
    };
    let backlog = backlog.run_all(&arguments.prefetch).await?;

    let gap = total.div_f64(work.len() as f64 * 2.0 * LOAD);
    println!(
        "\nA stream: a job every {:.1} ms, which keeps two servers busy for {:.0} % of the time",
        gap.as_secs_f64() * 1000.0,
        LOAD * 100.0
    );
    let stream = Experiment {
        work,
        gap: Some(gap),
        servers: 2,
        distance: near,
    };
    let stream = stream.run_all(&arguments.prefetch).await?;

    let work = vec![Duration::from_millis(5); arguments.jobs / 2];
    println!(
        "\nA long way: a backlog of {} jobs of 5 ms, one server, {} ms to the broker and {} ms back",
        work.len(),
        arguments.distance,
        arguments.distance
    );
    let distance = Duration::from_millis(arguments.distance);
    Experiment {
        work,
        gap: None,
        servers: 1,
        distance,
    }
    .run_all(&arguments.prefetch)
    .await?;

    if let Some(file) = &arguments.plot {
        draw(file, &backlog, &stream)?;
        println!("\nwrote {}", file.display());
    }
    Ok(())
}

/// How long each job takes, in the order in which they are published.
fn work(arguments: &Arguments) -> Vec<Duration> {
    let work = |number| match number % arguments.one_in.max(1) {
        0 => arguments.long,
        _ => arguments.short,
    };
    let mut work: Vec<_> = (0..arguments.jobs)
        .map(work)
        .map(Duration::from_millis)
        .collect();
    if matches!(arguments.order, Order::Shuffled) {
        fastrand::Rng::with_seed(arguments.seed).shuffle(&mut work);
    }
    work
}

struct Experiment {
    work: Vec<Duration>,
    /// The time between two jobs; without one they are all there before the servers.
    gap: Option<Duration>,
    servers: usize,
    /// How long octets take between a server and the broker, each way.
    distance: Duration,
}

impl Experiment {
    /// With each prefetch in turn.
    async fn run_all(&self, prefetches: &[u16]) -> Outcome<Vec<Run>> {
        println!(
            "  prefetch   makespan   wait p50   wait p99   jobs of each   idle while a job waits"
        );
        let mut runs = Vec::new();
        for &prefetch in prefetches {
            let run = timeout(PATIENCE, self.run(prefetch)).await??;
            println!("{}", run.row(self.servers));
            runs.push(run);
        }
        Ok(runs)
    }

    async fn run(&self, prefetch: u16) -> Outcome<Run> {
        let broker = Broker::start().await?;
        let publisher = Connection::open(&broker.uri()).await?;
        let channel = publisher.open_channel().await?;
        let declare = QueueDeclare {
            queue: QUEUE,
            ..Default::default()
        };
        channel.queue_declare(declare).await?;
        let mut published = Vec::new();
        if self.gap.is_none() {
            published = self.publish(&channel).await?;
            while broker
                .queue("jobs")
                .is_none_or(|queue| queue.ready < self.work.len())
            {
                sleep(Duration::from_millis(1)).await;
            }
        }

        let (done, mut finished) = mpsc::unbounded_channel();
        let mut channels = Vec::new();
        for _ in 0..self.servers {
            let connection = far_away(&broker.uri(), self.distance).await?;
            let channel = connection.open_channel().await?;
            channel.qos(prefetch).await?;
            channels.push(channel);
        }
        let mut servers = JoinSet::new();
        let mut start = Instant::now();
        for (server, channel) in channels.into_iter().enumerate() {
            let jobs = channel.consume(QUEUE).await?;
            servers.spawn(serve(server, jobs, self.work.clone(), done.clone()));
        }
        if self.gap.is_some() {
            start = Instant::now();
            published = self.publish(&channel).await?;
        }
        let mut jobs = collect(&mut finished, &mut servers, self.work.len()).await?;
        for job in &mut jobs {
            // A job that waited before anybody came has waited since then.
            job.published = published
                .get(job.number)
                .copied()
                .unwrap_or(start)
                .max(start);
        }
        Ok(Run {
            prefetch,
            start,
            jobs,
        })
    }

    /// Publishes all jobs, and says when each of them was on its way. The body is the number of the job.
    async fn publish(&self, channel: &Channel) -> Outcome<Vec<Instant>> {
        let mut published = Vec::new();
        let mut due = Instant::now();
        for number in 0..self.work.len() {
            sleep_until(due).await;
            published.push(Instant::now());
            channel.publish("", QUEUE, number.to_string()).await?;
            due += self.gap.unwrap_or_default();
        }
        Ok(published)
    }
}

/// One job at a time, and the ack when it is done (ACK-11).
async fn serve(
    server: usize,
    mut jobs: Consumer,
    work: Vec<Duration>,
    done: UnboundedSender<Job>,
) -> Outcome<()> {
    while let Some(delivery) = jobs.next().await {
        let delivery = delivery?;
        let begun = Instant::now();
        let number: usize = std::str::from_utf8(delivery.body())?.parse()?;
        let work = work.get(number).copied().ok_or("no such job")?;
        sleep(work).await;
        delivery.ack().await?;
        let ended = Instant::now();
        done.send(Job {
            number,
            server,
            work,
            published: begun,
            begun,
            ended,
        })?;
    }
    Ok(())
}

async fn collect(
    finished: &mut UnboundedReceiver<Job>,
    servers: &mut JoinSet<Outcome<()>>,
    count: usize,
) -> Outcome<Vec<Job>> {
    let mut jobs = Vec::new();
    while jobs.len() < count {
        tokio::select! {
            Some(job) = finished.recv() => jobs.push(job),
            Some(ended) = servers.join_next() => {
                ended??;
                return Err("a server ended".into());
            }
        }
    }
    servers.shutdown().await;
    Ok(jobs)
}

/// A connection whose octets take so long each way, as between two continents.
async fn far_away(uri: &str, distance: Duration) -> Outcome<Connection> {
    if distance.is_zero() {
        return Ok(Connection::open(uri).await?);
    }
    let options: ConnectOptions = uri.parse()?;
    let (from_broker, to_broker) = TcpStream::connect(options.address()).await?.into_split();
    let (near, far) = duplex(1 << 20);
    let (from_server, to_server) = split(far);
    tokio::spawn(carry(from_broker, to_server, distance));
    tokio::spawn(carry(from_server, to_broker, distance));
    let (reader, writer) = split(near);
    Ok(Connection::over(reader, writer, options).await?)
}

/// Octets come out as they went in, each of them so much later.
async fn carry<R, W>(mut from: R, mut to: W, distance: Duration) -> Outcome<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (sender, mut under_way) = mpsc::unbounded_channel();
    let take = async move {
        let mut buffer = [0; 4096];
        loop {
            match from.read(&mut buffer).await? {
                0 => return Outcome::Ok(()),
                count => sender.send((Instant::now() + distance, buffer[..count].to_vec()))?,
            }
        }
    };
    let give = async move {
        while let Some((due, octets)) = under_way.recv().await {
            sleep_until(due).await;
            to.write_all(&octets).await?;
        }
        Ok(())
    };
    tokio::try_join!(take, give).map(drop)
}

/// One job that is done.
struct Job {
    number: usize,
    server: usize,
    work: Duration,
    published: Instant,
    begun: Instant,
    ended: Instant,
}

/// What became of all jobs with one prefetch.
struct Run {
    prefetch: u16,
    start: Instant,
    jobs: Vec<Job>,
}

impl Run {
    fn row(&self, servers: usize) -> String {
        let makespan = self.seconds(self.jobs.iter().map(|job| job.ended).max());
        let jobs: Vec<_> = (0..servers)
            .map(|server| self.of(server).count().to_string())
            .collect();
        format!(
            "  {:<9} {:>8.2} s {:>7.0} ms {:>7.0} ms {:>14} {:>16.2} s",
            self.name(),
            makespan,
            self.wait(50) * 1000.0,
            self.wait(99) * 1000.0,
            jobs.join(" + "),
            self.idle(servers).as_secs_f64()
        )
    }

    fn name(&self) -> String {
        match self.prefetch {
            0 => "unlimited".into(),
            prefetch => prefetch.to_string(),
        }
    }

    fn of(&self, server: usize) -> impl Iterator<Item = &Job> {
        self.jobs.iter().filter(move |job| job.server == server)
    }

    /// Since the start.
    fn seconds(&self, at: Option<Instant>) -> f64 {
        at.map_or(0.0, |at| (at - self.start).as_secs_f64())
    }

    /// How long the jobs waited for a server to begin with them, shortest first, in seconds.
    fn waits(&self) -> Vec<f64> {
        let mut waits: Vec<_> = self
            .jobs
            .iter()
            .map(|job| (job.begun - job.published).as_secs_f64())
            .collect();
        waits.sort_by(f64::total_cmp);
        waits
    }

    /// So many percent of the jobs waited no longer.
    fn wait(&self, percent: usize) -> f64 {
        let waits = self.waits();
        let rank = (waits.len() * percent).div_ceil(100).max(1);
        waits.get(rank - 1).copied().unwrap_or_default()
    }

    /// How long servers did nothing, added up, while there was a job that nobody had begun.
    fn idle(&self, servers: usize) -> Duration {
        let mut changes: Vec<(Instant, i32, i32)> = Vec::new();
        for job in &self.jobs {
            changes.push((job.published, 1, 0));
            changes.push((job.begun, -1, 1));
            changes.push((job.ended, 0, -1));
        }
        changes.sort_by_key(|(at, ..)| *at);
        let (mut waiting, mut busy, mut idle) = (0, 0, Duration::ZERO);
        let mut before = self.start;
        for (at, more_waiting, more_busy) in changes {
            if waiting > 0 {
                let servers = u32::try_from(servers).unwrap_or(u32::MAX);
                idle += (at - before) * servers.saturating_sub(u32::try_from(busy).unwrap_or(0));
            }
            (waiting, busy, before) = (waiting + more_waiting, busy + more_busy, at);
        }
        idle
    }
}

// ---- the picture -------------------------------------------------------------------------------------------------

const SHORT: RGBColor = COLOURS[0];
const LONG: RGBColor = COLOURS[1];
const CURVES: [RGBColor; 3] = [COLOURS[2], COLOURS[3], COLOURS[4]];

const WIDTH: u32 = 860;
const TITLE: u32 = 60;
const LANE: i32 = 24;
const STRIP: i32 = 2 * LANE + 20;
const CURVES_HEIGHT: u32 = 300;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Above, what the servers did with the backlog; below, how long the jobs of the stream waited.
fn draw(file: &Path, backlog: &[Run], stream: &[Run]) -> Outcome<()> {
    let strips = u32::try_from(STRIP)? * u32::try_from(backlog.len())? + 40;
    let height = TITLE + strips + CURVES_HEIGHT;
    let root = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    let (top, bottom) = root.split_vertically(TITLE + strips);
    draw_lanes(&top, backlog)?;
    draw_waits(&bottom, stream)?;
    root.present().map_err(owned)
}

fn text(size: u32, across: HPos) -> TextStyle<'static> {
    let style = ("sans-serif", size).into_font().color(&INK);
    style.pos(Pos::new(across, VPos::Center))
}

fn draw_lanes(area: &Area<'_>, runs: &[Run]) -> Outcome<()> {
    let (left, right, top) = (170, i32::try_from(WIDTH)? - 24, i32::try_from(TITLE)?);
    let ended = |run: &Run| run.seconds(run.jobs.iter().map(|job| job.ended).max());
    let longest = runs.iter().map(ended).fold(1.0, f64::max);
    let across = |seconds: f64| left + (f64::from(right - left) * seconds / longest).round() as i32;
    let write = |words: String, at: (i32, i32), size, to| {
        area.draw(&Text::new(words, at, text(size, to)))
            .map_err(owned)
    };

    write(
        "A backlog: when each server works".into(),
        (16, 22),
        18,
        HPos::Left,
    )?;
    let mut x = right - 400;
    for (colour, words) in [
        (SHORT.mix(1.0), "a short job"),
        (LONG.mix(1.0), "a long job"),
        (INK.mix(0.2), "nothing to do"),
    ] {
        let key = Rectangle::new([(x, 16), (x + 14, 28)], colour.filled());
        area.draw(&key).map_err(owned)?;
        write(words.into(), (x + 22, 22), 15, HPos::Left)?;
        x += 140;
    }

    let bottom = top + STRIP * i32::try_from(runs.len())?;
    for second in 0..=longest as i32 {
        let x = across(f64::from(second));
        let line = PathElement::new([(x, top - 12), (x, bottom)], INK.mix(0.25));
        area.draw(&line).map_err(owned)?;
        write(format!("{second} s"), (x, bottom + 14), 15, HPos::Center)?;
    }
    for (strip, run) in (0..).zip(runs) {
        let y = top + STRIP * strip;
        write(
            format!("prefetch {}", run.name()),
            (16, y + LANE),
            15,
            HPos::Left,
        )?;
        for lane in [y, y + LANE] {
            let corners = [(left, lane + 2), (across(ended(run)), lane + LANE - 2)];
            area.draw(&Rectangle::new(corners, INK.mix(0.2).filled()))
                .map_err(owned)?;
        }
        for job in &run.jobs {
            let y = y + LANE * i32::try_from(job.server)?;
            let (from, to) = (
                across(run.seconds(Some(job.begun))),
                across(run.seconds(Some(job.ended))),
            );
            let short = run.jobs.iter().map(|job| job.work).min() == Some(job.work);
            let colour = if short { SHORT } else { LONG };
            let corners = [(from, y + 2), (to.max(from + 2) - 1, y + LANE - 2)];
            area.draw(&Rectangle::new(corners, colour.filled()))
                .map_err(owned)?;
        }
    }
    Ok(())
}

fn draw_waits(area: &Area<'_>, runs: &[Run]) -> Outcome<()> {
    let most = runs.iter().filter_map(|run| run.waits().pop());
    let most = most.fold(0.1, f64::max) * 1000.0;
    let mut chart = ChartBuilder::on(area)
        .caption(
            "A stream: how many of the jobs wait longer than this",
            ("sans-serif", 18).into_font().color(&INK),
        )
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..most, 0.0..100.0)
        .map_err(owned)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(INK.mix(0.25))
        .axis_style(INK.mix(0.6))
        .x_label_formatter(&|wait| format!("{wait:.0} ms"))
        .y_label_formatter(&|share| format!("{share:.0} %"))
        .y_labels(6)
        .label_style(("sans-serif", 15).into_font().color(&INK))
        .draw()
        .map_err(owned)?;
    // Two of the curves lie upon each other: the wide one shows on both sides of the narrow one.
    let curves = CURVES.into_iter().zip([3, 6, 2]).cycle();
    for ((place, run), (colour, width)) in (0..).zip(runs).zip(curves) {
        let waits = run.waits();
        let share = |done: usize| 100.0 * (waits.len() - done) as f64 / waits.len() as f64;
        let mut points = vec![(0.0, 100.0)];
        for (before, wait) in waits.iter().map(|wait| wait * 1000.0).enumerate() {
            points.push((wait, share(before)));
            points.push((wait, share(before + 1)));
        }
        let curve = PathElement::new(points, colour.stroke_width(width));
        chart.plotting_area().draw(&curve).map_err(owned)?;

        let at = (560, 60 + 24 * place);
        let key = PathElement::new([at, (at.0 + 24, at.1)], colour.stroke_width(width));
        area.draw(&key).map_err(owned)?;
        let words = format!("prefetch {}", run.name());
        area.draw(&Text::new(words, (at.0 + 34, at.1), text(15, HPos::Left)))
            .map_err(owned)?;
    }
    Ok(())
}
