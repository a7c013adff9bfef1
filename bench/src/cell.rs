//! One kind of work: how many connections, which answer, at what rate, through which protocol.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};

/// The cells that docs/benchmarks.md shows.
pub(crate) const DEFAULT: &str = "64:/,512:/,64:/:8000,64:/:0:big,16:/64k,16:/1m,tcp:64:/,tcp:16:/1m";

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cell {
    /// Through the proxy's tcp listener. The work is the same: HTTP requests.
    pub(crate) tcp: bool,
    pub(crate) connections: usize,
    pub(crate) path: String,
    /// Requests per second; None: each connection sends its next request when it has its answer.
    pub(crate) rate: Option<f64>,
    /// 15 header fields, as a browser sends, instead of 4.
    pub(crate) big: bool,
    text: String,
}

impl Cell {
    /// The answers are large enough that what counts is copying.
    pub(crate) fn is_bulk(&self) -> bool {
        self.path != "/"
    }

    /// The request that every connection repeats.
    pub(crate) fn request(&self) -> Vec<u8> {
        let mut head = format!(
            "GET {} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: everup-bench\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n",
            self.path
        );
        if self.big {
            head.push_str(BROWSER_FIELDS);
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

/// The host that the proxies route by.
pub(crate) const HOST: &str = "shop.example";

const BROWSER_FIELDS: &str = "Accept-Language: en-GB,en;q=0.8,de;q=0.5\r\n\
    Cookie: session=4f6c1f0de9a24b7c8d3e5a6b7c8d9e0f; theme=light; consent=all; cart=3b1d9a7e5c2f4a6b8d0e\r\n\
    Referer: https://shop.example/catalogue/shelf-17?sort=price&page=4\r\n\
    Sec-Ch-Ua: \"Chromium\";v=\"146\", \"Not-A.Brand\";v=\"8\"\r\n\
    Sec-Ch-Ua-Mobile: ?0\r\n\
    Sec-Ch-Ua-Platform: \"Linux\"\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    X-Client-Build: 2026.11.3-release+9c1f2e7a; channel=stable; arch=x86_64; locale=en-GB\r\n";

impl FromStr for Cell {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (tcp, rest) = text.strip_prefix("tcp:").map_or((false, text), |rest| (true, rest));
        let mut parts = rest.split(':');
        let connections =
            parts.next().unwrap_or_default().parse().context("a cell begins with CONNECTIONS:")?;
        ensure!(connections > 0, "a cell needs a connection");
        let path = parts.next().context("a cell names a path")?.to_owned();
        ensure!(
            ["/", "/64k", "/1m"].contains(&path.as_str()),
            "the origin answers /, /64k and /1m, not {path}"
        );
        let (mut rate, mut big) = (None, false);
        for part in parts {
            match part {
                "big" => big = true,
                _ => match part.parse::<f64>() {
                    Ok(0.0) => rate = None,
                    Ok(number) if number > 0.0 && number.is_finite() => rate = Some(number),
                    _ => bail!("{part} is neither a rate nor `big`"),
                },
            }
        }
        Ok(Self { tcp, connections, path, rate, big, text: text.into() })
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_read_from_its_text() {
        let cell: Cell = "tcp:16:/1m:8000:big".parse().unwrap();

        assert_eq!((cell.tcp, cell.connections, cell.path.as_str()), (true, 16, "/1m"));
        assert_eq!((cell.rate, cell.big), (Some(8000.0), true));
        assert_eq!(cell.to_string(), "tcp:16:/1m:8000:big");
    }

    #[test]
    fn a_cell_that_means_nothing_is_refused() {
        for text in ["", "0:/", "many:/", "64", "64:/other", "64:/:fast", "64:/:-1"] {
            assert!(text.parse::<Cell>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_default_cell_is_valid() {
        assert!(DEFAULT.split(',').all(|text| text.parse::<Cell>().is_ok()));
    }
}
