//! One AMQP peer that does one kind of work and reports it as a line of JSON, so that a harness can run it beside the
//! peers of other libraries.
//!
//! `--api channel` does exactly what they do: no confirms, nothing mandatory, reply then ack. `--api rpc` is
//! `RpcClient` and `RpcServer` as a user gets them.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use amqp_rpc::{
    client::{Channel, Connection, Consumer, Message, Received},
    codec::{BasicConsume, QueueDeclare, ShortString},
    rpc::{Request, RpcClient, RpcServer, RpcServerOptions},
};
use amqp_rpc_benches::work::{
    self, Ack, Api, Arguments, Outcome, Role, Window, report_calls, report_flow,
};
use bytes::Bytes;
use clap::Parser;
use futures_util::{TryStreamExt, stream::FuturesUnordered};

fn main() -> Outcome<()> {
    work::run(run(Arguments::parse()))
}

async fn run(arguments: Arguments) -> Outcome<()> {
    match (arguments.role, arguments.api) {
        (Role::Server, Api::Channel) => serve_channel(arguments).await,
        (Role::Server, Api::Rpc) => serve_rpc(arguments).await,
        (Role::Client, Api::Channel) => call_channel(arguments).await,
        (Role::Client, Api::Rpc) => call_rpc(arguments).await,
        (Role::Publish, _) => publish(arguments).await,
        (Role::Consume, _) => consume(arguments).await,
    }
}

async fn open(arguments: &Arguments) -> Outcome<(Connection, Channel)> {
    let connection = Connection::open(&arguments.url).await?;
    let channel = connection.open_channel().await?;
    Ok((connection, channel))
}

async fn declare(channel: &Channel, queue: &str, passive: bool) -> Outcome<()> {
    let declare = QueueDeclare {
        queue: queue.try_into()?,
        auto_delete: !passive,
        passive,
        ..Default::default()
    };
    channel.queue_declare(declare).await?;
    Ok(())
}

async fn serve_channel(arguments: Arguments) -> Outcome<()> {
    let (_connection, channel) = open(&arguments).await?;
    declare(&channel, &arguments.queue, false).await?;
    channel.qos(arguments.prefetch).await?;
    let mut requests = channel.consume(arguments.queue.as_str()).await?;
    println!("ready");
    while let Some(request) = requests.next().await {
        let (received, acker) = request?.into_parts();
        let mut request = received.message;
        let reply_to = request.properties.reply_to.take().unwrap_or_default();
        let mut reply = Message::from(request.body);
        reply.properties.correlation_id = request.properties.correlation_id.take();
        channel.publish("", reply_to, reply).await?;
        acker.ack().await?;
    }
    Ok(())
}

async fn serve_rpc(arguments: Arguments) -> Outcome<()> {
    let (connection, channel) = open(&arguments).await?;
    declare(&channel, &arguments.queue, false).await?;
    let options = RpcServerOptions {
        prefetch: arguments.prefetch,
        ..Default::default()
    };
    let server = RpcServer::with_options(&connection, arguments.queue.as_str(), options).await?;
    println!("ready");
    server
        .serve(
            |request: Request| async move { Ok(request.body) },
            std::future::pending(),
        )
        .await?;
    Ok(())
}

async fn call_channel(arguments: Arguments) -> Outcome<()> {
    let (_connection, channel) = open(&arguments).await?;
    let declare = QueueDeclare {
        exclusive: true,
        ..Default::default()
    };
    let reply_to = channel.queue_declare(declare).await?.queue;
    let consume = BasicConsume {
        queue: reply_to.clone(),
        ..Default::default()
    };
    let replies = channel.consume_no_ack(consume).await?;
    let queue = ShortString::try_from(arguments.queue.as_str())?;
    let body = vec![b'x'; arguments.body].into();
    let began = vec![Instant::now(); arguments.concurrency];
    let mut caller = Caller {
        channel,
        replies,
        queue,
        reply_to,
        body,
        began,
    };
    caller.run(arguments.calls_to_warm_up()).await?;
    let window = Window::open()?;
    let latencies = caller.run(arguments.calls).await?;
    report_calls("amqp-rpc", &arguments, window, latencies)
}

/// One task that keeps calls in flight: whatever reply comes makes room for the next request.
struct Caller {
    channel: Channel,
    replies: Consumer<Received>,
    queue: ShortString,
    reply_to: ShortString,
    body: Bytes,
    /// When the call in each place began. The correlation id is the place.
    began: Vec<Instant>,
}

impl Caller {
    async fn run(&mut self, calls: usize) -> Outcome<Vec<Duration>> {
        let mut latencies = Vec::with_capacity(calls);
        let first = self.began.len().min(calls);
        for place in 0..first {
            self.request(place).await?;
        }
        let mut sent = first;
        while latencies.len() < calls {
            let reply = self
                .replies
                .next()
                .await
                .ok_or("the replies have ended")??;
            if reply.body().len() != self.body.len() {
                return Err("a reply of another length".into());
            }
            let id = reply
                .properties()
                .correlation_id
                .as_ref()
                .and_then(|id| number(id.as_bytes()));
            let place = id.ok_or("a reply to nothing")?;
            latencies.push(self.began.get(place).ok_or("a reply to nothing")?.elapsed());
            if sent < calls {
                self.request(place).await?;
                sent += 1;
            }
        }
        Ok(latencies)
    }

    async fn request(&mut self, place: usize) -> Outcome<()> {
        let mut message = Message::from(self.body.clone());
        message.properties.correlation_id =
            Some(ShortString::try_from(itoa::Buffer::new().format(place))?);
        message.properties.reply_to = Some(self.reply_to.clone());
        self.began[place] = Instant::now();
        Ok(self.channel.publish("", &self.queue, message).await?)
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    let digit = |octet: &u8| char::from(*octet).to_digit(10);
    digits.iter().try_fold(0, |number, octet| {
        Some(10 * number + digit(octet)? as usize)
    })
}

async fn call_rpc(arguments: Arguments) -> Outcome<()> {
    let connection = Connection::open(&arguments.url).await?;
    let rpc = RpcClient::new(&connection).await?;
    let queue = ShortString::try_from(arguments.queue.as_str())?;
    let caller = RpcCaller {
        rpc,
        queue,
        body: vec![b'x'; arguments.body].into(),
        concurrency: arguments.concurrency,
    };
    caller.run(arguments.calls_to_warm_up()).await?;
    let window = Window::open()?;
    let latencies = caller.run(arguments.calls).await?;
    report_calls("amqp-rpc/rpc", &arguments, window, latencies)
}

/// One task that keeps calls in flight, as `Caller` does.
struct RpcCaller {
    rpc: RpcClient,
    queue: ShortString,
    body: Bytes,
    concurrency: usize,
}

impl RpcCaller {
    async fn run(&self, calls: usize) -> Outcome<Vec<Duration>> {
        let left = AtomicUsize::new(calls);
        let share = 2 * calls / self.concurrency.max(1); // more than most of them make: nothing is to grow while time is taken
        let callers = (0..self.concurrency).map(|_| self.call_while(&left, share));
        let mut callers: FuturesUnordered<_> = callers.collect();
        let mut all = Vec::with_capacity(calls);
        while let Some(latencies) = callers.try_next().await? {
            all.extend(latencies);
        }
        Ok(all)
    }

    async fn call_while(&self, left: &AtomicUsize, share: usize) -> Outcome<Vec<Duration>> {
        let mut latencies = Vec::with_capacity(share);
        while left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
        {
            let began = Instant::now();
            let reply = self.rpc.call(&self.queue, self.body.clone()).await?;
            if reply.body.len() != self.body.len() {
                return Err("a reply of another length".into());
            }
            latencies.push(began.elapsed());
        }
        Ok(latencies)
    }
}

async fn publish(arguments: Arguments) -> Outcome<()> {
    let (_connection, channel) = open(&arguments).await?;
    declare(&channel, &arguments.queue, false).await?;
    let queue = ShortString::try_from(arguments.queue.as_str())?;
    let body = Bytes::from(vec![b'x'; arguments.body]);
    let window = Window::open()?;
    for _ in 0..arguments.count {
        channel.publish("", &queue, body.clone()).await?;
    }
    declare(&channel, &arguments.queue, true).await?;
    report_flow("amqp-rpc", "publish", &arguments, window)
}

async fn consume(arguments: Arguments) -> Outcome<()> {
    let (_connection, channel) = open(&arguments).await?;
    declare(&channel, &arguments.queue, false).await?;
    channel.qos(arguments.prefetch).await?;
    let window = Window::open()?;
    if arguments.ack == Ack::Manual {
        let mut messages = channel.consume(arguments.queue.as_str()).await?;
        for _ in 0..arguments.count {
            messages
                .next()
                .await
                .ok_or("the consumer ended")??
                .ack()
                .await?;
        }
    } else {
        let consume = BasicConsume {
            queue: arguments.queue.as_str().try_into()?,
            ..Default::default()
        };
        let mut messages = channel.consume_no_ack(consume).await?;
        for _ in 0..arguments.count {
            messages.next().await.ok_or("the consumer ended")??;
        }
    }
    report_flow("amqp-rpc", "consume", &arguments, window)
}
