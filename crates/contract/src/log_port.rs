//! How logs leave a machine by a serial port, which needs no network and no shell: PID1 writes them to the device of `bw.logs=`
//! whenever [`REQUEST`] comes from there.
//!
//! An answer is a sequence of pieces, each a line `<log> <length>` and so many bytes of that log, and ends with the line
//! [`END`]. Pieces of one log follow each other in order.

/// The byte that asks for all logs.
pub const REQUEST: u8 = b'?';
/// The log of the kernel: records of `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg). Other logs are those of services and have
/// names as in `/var/log`, `web.log.1` before `web.log`.
pub const KERNEL: &str = "kernel";
/// The last line of an answer, without its newline.
pub const END: &str = "end";

/// The line before so many bytes of a log, with its newline.
pub fn header(log: &str, length: usize) -> String {
    [log, " ", &length.to_string(), "\n"].concat()
}

/// The first piece of an answer, or what else there is.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Bytes {
        log: &'a str,
        bytes: &'a [u8],
        rest: &'a [u8],
    },
    End,
    /// The answer breaks off within a piece; these bytes of it are there.
    Cut {
        log: &'a str,
        bytes: &'a [u8],
    },
    /// Nothing more, or what is no piece.
    Nothing,
}

/// Splits off the first piece.
pub fn next_piece(answer: &[u8]) -> Piece<'_> {
    let mut halves = answer.splitn(2, |byte| *byte == b'\n');
    let (Some(line), Some(rest)) = (halves.next(), halves.next()) else { return Piece::Nothing };
    match std::str::from_utf8(line) {
        Ok(END) => Piece::End,
        Ok(line) => match line.rsplit_once(' ').and_then(|(log, length)| Some((log, length.parse().ok()?))) {
            Some((log, length)) => match rest.split_at_checked(length) {
                Some((bytes, rest)) => Piece::Bytes { log, bytes, rest },
                None => Piece::Cut { log, bytes: rest },
            },
            None => Piece::Nothing,
        },
        Err(_) => Piece::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_back_whatever_the_logs_hold() {
        let log = b"end\nweb.log 3\n\0\xff\x1b[2J".as_slice();
        let answer = [header("web.log", log.len()).as_bytes(), log, b"end\n"].concat();
        let rest = b"end\n".as_slice();
        assert_eq!(next_piece(&answer), Piece::Bytes { log: "web.log", bytes: log, rest });
        assert_eq!(next_piece(rest), Piece::End);
        let cut = next_piece(&answer[..answer.len() - 6]);
        assert_eq!(cut, Piece::Cut { log: "web.log", bytes: &log[..log.len() - 2] });
        for odd in ["", "web.log", "web.log 3", "web.log x\nabc", "\n", "web.log 99999999999999999999\n"] {
            assert_eq!(next_piece(odd.as_bytes()), Piece::Nothing, "{odd:?}");
        }
        assert_eq!(next_piece(b"\xff 3\nabc"), Piece::Nothing);
    }
}
