//! The framing of binary COPY: <https://www.postgresql.org/docs/15/sql-copy.html>. Pure.
//!
//! A stream is the header, rows, and the trailer. A row is the number of its fields, then each field.

/// Starts a stream: signature, no flags, no extension.
pub(crate) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Ends a stream: a row of -1 fields.
pub(crate) const TRAILER: &[u8] = &[0xff, 0xff];

/// Begins a row; as many fields must follow.
pub(crate) fn begin_row(fields: usize, stream: &mut Vec<u8>) {
    let fields = i16::try_from(fields).expect("Postgres allows 1600 columns");
    stream.extend_from_slice(&fields.to_be_bytes());
}

/// A field, in the binary form of its type.
pub(crate) fn field(value: &[u8], stream: &mut Vec<u8>) {
    let length = i32::try_from(value.len()).expect("a field is no larger than 1 GB");
    stream.extend_from_slice(&length.to_be_bytes());
    stream.extend_from_slice(value);
}

/// A field of type `jsonb`: version 1 of its binary form is that number, and the text.
pub(crate) fn jsonb(text: &str, stream: &mut Vec<u8>) {
    let length = i32::try_from(text.len() + 1).expect("a field is no larger than 1 GB");
    stream.extend_from_slice(&length.to_be_bytes());
    stream.push(1);
    stream.extend_from_slice(text.as_bytes());
}

/// A field without a value.
pub(crate) fn null(stream: &mut Vec<u8>) {
    stream.extend_from_slice(&(-1_i32).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_framed_as_the_manual_says() {
        let mut stream = Vec::new();
        begin_row(3, &mut stream);
        field(b"ab", &mut stream);
        jsonb("{}", &mut stream);
        null(&mut stream);
        assert_eq!(stream, b"\0\x03\0\0\0\x02ab\0\0\0\x03\x01{}\xff\xff\xff\xff");
    }
}
