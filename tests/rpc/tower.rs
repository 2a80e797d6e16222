//! Layers around a client, and around a handler.

use std::{
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use amqp_rpc::{
    client::Message,
    rpc::{
        HandlerError, ReplyCache, Request, RpcError, RpcServerOptions,
        service::{RpcRequest, from_service},
    },
};
use tokio::{sync::Notify, time::timeout};
use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt, load_shed::error::Overloaded, retry::Policy,
    service_fn, timeout::error::Elapsed,
};

use super::{PATIENCE, World};

/// Tries again, as often as it says, what may be tried again.
#[derive(Clone)]
struct Attempts(usize);

impl Policy<RpcRequest, Message, RpcError> for Attempts {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        request: &mut RpcRequest,
        outcome: &mut Result<Message, RpcError>,
    ) -> Option<Self::Future> {
        let error = outcome.as_ref().err()?;
        let again = request.may_try_again(error);
        self.0 = self.0.checked_sub(1).filter(|_| again)?;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &RpcRequest) -> Option<RpcRequest> {
        Some(request.clone())
    }
}

#[tokio::test]
async fn a_client_is_a_service() {
    let world = World::new().await;
    world
        .serve("echo", |request: Request| async move { Ok(request.body) })
        .await;
    let rpc = world.client().await;
    let reply = rpc
        .clone()
        .oneshot(RpcRequest::new("echo", "hello").unwrap())
        .await
        .unwrap();
    assert_eq!(reply.body, "hello");
    assert_eq!(rpc.stats().answered, 1);
    let long = RpcRequest::new("q".repeat(256), "");
    assert!(long.is_err(), "a name of 256 octets");
}

#[tokio::test]
async fn a_retry_layer_asks_again_and_a_server_that_keeps_replies_works_once() {
    // RPC-15
    let world = World::new().await;
    let works = Arc::new(AtomicUsize::new(0));
    let failing = works.clone();
    let handler = move |_: Request| {
        let work = failing.fetch_add(1, SeqCst);
        ready(if work < 2 {
            Err(HandlerError::unavailable("not yet"))
        } else {
            Ok("at last")
        })
    };
    let options = RpcServerOptions {
        reply_cache: Some(Arc::new(ReplyCache::new(1 << 20))),
        ..Default::default()
    };
    let monitor = world.serve_with(options, "work", handler).await;
    let mut rpc = ServiceBuilder::new()
        .retry(Attempts(5))
        .service(world.client().await);
    let request = RpcRequest::new("work", "").unwrap().idempotent();
    let reply = rpc
        .ready()
        .await
        .unwrap()
        .call(request.clone())
        .await
        .unwrap();
    assert_eq!(reply.body, "at last");
    assert_eq!(works.load(SeqCst), 3);

    let again = rpc.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(again.body, "at last");
    assert_eq!(
        (works.load(SeqCst), monitor.stats().replayed),
        (3, 1),
        "the same call once more"
    );

    let other = RpcRequest::new("work", "").unwrap();
    assert_eq!(
        rpc.ready().await.unwrap().call(other).await.unwrap().body,
        "at last"
    );
    assert_eq!(works.load(SeqCst), 4);
}

#[tokio::test]
async fn what_may_be_executed_is_not_tried_again() {
    let world = World::new().await;
    let monitor = world
        .serve("fail", |_: Request| async {
            Err::<&str, _>(HandlerError::new("no", "no"))
        })
        .await;
    let rpc = world.client().await;
    let mut retrying = ServiceBuilder::new()
        .retry(Attempts(3))
        .service(rpc.clone());
    let request = RpcRequest::new("fail", "").unwrap();
    assert!(matches!(
        retrying.ready().await.unwrap().call(request).await,
        Err(RpcError::Remote { .. })
    ));
    assert_eq!(monitor.stats().failed, 1);
    let nowhere = RpcRequest::new("nowhere", "").unwrap();
    assert!(matches!(
        retrying.ready().await.unwrap().call(nowhere).await,
        Err(RpcError::Unroutable { .. })
    ));
    assert_eq!(
        rpc.stats().unroutable,
        4,
        "nothing was executed, so it was tried again"
    );
}

#[tokio::test]
async fn a_limit_and_a_shed_load_in_front_of_a_client() {
    let world = World::new().await;
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (at_work, wait) = (begun.clone(), go_on.clone());
    let handler = move |_: Request| {
        let (at_work, wait) = (at_work.clone(), wait.clone());
        async move {
            at_work.notify_one();
            wait.notified().await;
            Ok("done")
        }
    };
    world.serve("slow", handler).await;
    let rpc = ServiceBuilder::new()
        .load_shed()
        .concurrency_limit(1)
        .service(world.client().await);
    let request = RpcRequest::new("slow", "").unwrap();
    let first = tokio::spawn(rpc.clone().oneshot(request.clone()));
    timeout(PATIENCE, begun.notified()).await.unwrap();
    let second = rpc.oneshot(request).await.unwrap_err();
    assert!(second.is::<Overloaded>(), "{second}");
    go_on.notify_one();
    assert_eq!(first.await.unwrap().unwrap().body, "done");
}

#[tokio::test]
async fn load_that_a_handler_sheds_may_be_sent_again() {
    let world = World::new().await;
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (at_work, wait) = (begun.clone(), go_on.clone());
    let slow = service_fn(move |_: Request| {
        let (at_work, wait) = (at_work.clone(), wait.clone());
        async move {
            at_work.notify_one();
            wait.notified().await;
            Ok::<_, HandlerError>("done")
        }
    });
    let shedding = ServiceBuilder::new()
        .map_err(|error: BoxError| match error.downcast::<Overloaded>() {
            Ok(_) => HandlerError::unavailable("too much to do").into(),
            Err(other) => other,
        })
        .load_shed()
        .concurrency_limit(1)
        .service(slow);
    let options = RpcServerOptions {
        prefetch: 2,
        ..Default::default()
    };
    world
        .serve_with(options, "slow", from_service(shedding))
        .await;
    let rpc = world.client().await;
    let request = RpcRequest::new("slow", "").unwrap();
    let first = tokio::spawn(rpc.clone().oneshot(request.clone()));
    timeout(PATIENCE, begun.notified()).await.unwrap();
    let shed = rpc.oneshot(request.clone()).await.unwrap_err();
    assert!(request.may_try_again(&shed), "{shed}");
    go_on.notify_one();
    assert_eq!(first.await.unwrap().unwrap().body, "done");
}

#[tokio::test]
async fn a_layer_in_front_of_a_handler_answers_for_it() {
    let world = World::new().await;
    let never = service_fn(|_: Request| std::future::pending::<Result<&str, HandlerError>>());
    let never = ServiceBuilder::new().timeout(Duration::ZERO).service(never);
    world.serve("never", from_service(never)).await;
    let error = world.client().await.call("never", "").await.unwrap_err();
    let RpcError::Remote { kind, message } = error else {
        panic!("{error}")
    };
    assert_eq!(
        (kind.as_str(), message),
        ("layer", Elapsed::new().to_string())
    );
}

#[tokio::test]
async fn an_error_of_the_handler_comes_through_its_layers() {
    let world = World::new().await;
    let picky = service_fn(|request: Request| {
        ready(if request.body.is_empty() {
            Err(HandlerError::bad_request("empty"))
        } else {
            Ok(request.body)
        })
    });
    let layered = ServiceBuilder::new()
        .load_shed()
        .concurrency_limit(10)
        .timeout(PATIENCE)
        .service(picky);
    world.serve("picky", from_service(layered)).await;
    world.serve("plain", from_service(picky)).await;
    let rpc = world.client().await;
    for queue in ["picky", "plain"] {
        assert_eq!(rpc.call(queue, "1").await.unwrap().body, "1");
        let error = rpc.call(queue, "").await.unwrap_err();
        assert!(
            matches!(&error, RpcError::Remote { kind, .. } if kind == "bad-request"),
            "{queue}: {error}"
        );
    }
}

#[tokio::test]
async fn a_handler_waits_until_its_service_is_ready() {
    let world = World::new().await;
    let most = Arc::new(AtomicUsize::new(0));
    let (running, seen) = (Arc::new(AtomicUsize::new(0)), most.clone());
    let service = service_fn(move |_: Request| {
        let (running, seen) = (running.clone(), seen.clone());
        async move {
            seen.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::task::yield_now().await;
            running.fetch_sub(1, SeqCst);
            Ok::<_, HandlerError>("done")
        }
    });
    let service = ServiceBuilder::new().concurrency_limit(2).service(service);
    let options = RpcServerOptions {
        prefetch: 16,
        ..Default::default()
    };
    world
        .serve_with(options, "work", from_service(service))
        .await;
    let rpc = world.client().await;
    let calls: Vec<_> = (0..50)
        .map(|_| {
            tokio::spawn({
                let rpc = rpc.clone();
                async move { rpc.call("work", "").await }
            })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().body, "done");
    }
    assert_eq!(most.load(SeqCst), 2);
}
