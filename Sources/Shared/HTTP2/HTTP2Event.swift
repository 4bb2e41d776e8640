public import HTTP

/// What a session found in the bytes that it was given, or learned while it wrote.
///
/// Events of a stream that the owner has reset meanwhile still stand behind; its `context` is nil then.
public enum HTTP2Event {
    /// Server: a request. Client: a final response, 200 or more. With `endStream` the message is complete and no `end` follows.
    case head(HTTP2Stream, endStream: Bool)
    /// Client: a 1xx response, in a head of its own, since the final one may come in the same bytes.
    case interim(HTTP2Stream, Head)
    /// The head is well-formed but passes a limit of ours; `stream.head` has what was read until then. A server answers 431 and resets
    /// or ends the stream. A client's session has reset it already: nothing follows.
    case malformedHead(HTTP2Stream, HTTP2Error)
    /// Bytes of the body, as a range of the bytes that were given to `receive`. Each is to be given back by `consume`.
    case data(HTTP2Stream, Range<Int>)
    /// Trailers have come, in `stream.trailers`. `end` follows.
    case trailers(HTTP2Stream)
    /// The message is complete.
    case end(HTTP2Stream)
    /// The stream is over before both sides had ended it, by a reset or the peer's GOAWAY. Neither clean ends nor the owner's own resets
    /// are told.
    ///
    /// - `byPeer`: false if the session reset it, since the peer broke the rules of messages.
    /// - `isUnprocessed`: the peer says that it has not looked at the request; it may be sent again elsewhere, whatever its method.
    case closed(HTTP2Stream, code: HTTP2ErrorCode, byPeer: Bool, isUnprocessed: Bool)
    /// The peer takes no new streams. Those above `lastStream` are closed, each with an event of its own.
    case goAway(lastStream: Int32, code: HTTP2ErrorCode)
    /// The peer's SETTINGS, the first or changed ones, are in force.
    case settings
    /// The peer has our SETTINGS.
    case settingsAcknowledged
    /// An answer to our `ping`.
    case pong
}
