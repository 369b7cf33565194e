//! An API server on loopback: HTTP/1.1, real connections, and answers that a test chooses.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// A request, as far as answers depend on it.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// Path and query.
    pub(super) path: String,
    pub(super) is_watch: bool,
    /// Its header.
    pub(super) accept: String,
    /// Counts the lists, or the watches, from 1.
    pub(super) count: usize,
}

/// What a request gets.
pub(super) enum Answer {
    /// A status and a body.
    Json(u16, Value),
    /// The head of a watch and these events, and then nothing for ever.
    Watch(Vec<Value>),
    /// Nothing, for ever: as if the machine had vanished.
    Silence,
    /// Another answer, once this is true.
    After(watch::Receiver<bool>, Box<Self>),
}

type Answers = dyn Fn(&Request) -> Answer + Send + Sync;

pub(super) struct ApiServer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ApiServer {
    pub(super) fn start(answers: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let answers: Arc<Answers> = Arc::new(answers);
        let requests = Arc::new(Mutex::new(Vec::new()));
        Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::clone(&requests),
            task: tokio::spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (answers, requests) = (Arc::clone(&answers), Arc::clone(&requests));
                    // A client that goes away ends its connection, and nothing else.
                    tokio::spawn(async move {
                        let _ = connection(stream, &*answers, &requests).await;
                    });
                }
            }),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked for up to now, in order.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

async fn connection(
    stream: TcpStream,
    answers: &Answers,
    requests: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Some(first) = lines.next_line().await? {
        let mut accept = String::new();
        while let Some(line) = lines.next_line().await?.filter(|line| !line.is_empty()) {
            if let Some(value) = line.strip_prefix("accept: ") {
                accept = value.to_owned();
            }
        }
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let is_watch = path.contains("watch=true");
        let request = {
            let mut requests = requests.lock().unwrap();
            let count = requests.iter().filter(|it| it.is_watch == is_watch).count() + 1;
            let request = Request {
                path,
                is_watch,
                accept,
                count,
            };
            requests.push(request.clone());
            request
        };
        let mut answer = answers(&request);
        while let Answer::After(mut gate, then) = answer {
            let _ = gate.wait_for(|open| *open).await;
            answer = *then;
        }
        match answer {
            Answer::Json(status, body) => {
                let body = body.to_string();
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                writer.write_all((head + &body).as_bytes()).await?;
            }
            Answer::Watch(events) => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
                writer.write_all(head.as_bytes()).await?;
                for event in events {
                    let line = format!("{event}\n");
                    let chunk = format!("{:x}\r\n{line}\r\n", line.len());
                    writer.write_all(chunk.as_bytes()).await?;
                }
                std::future::pending::<()>().await;
            }
            Answer::Silence | Answer::After(..) => std::future::pending::<()>().await,
        }
    }
    Ok(())
}
