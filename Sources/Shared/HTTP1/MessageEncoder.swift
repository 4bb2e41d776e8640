public import Base
public import HTTP

/// Writes heads and chunk framing to a peer's connection.
///
/// Only the fields that a head lists are written, in their order and case; runs of those that stand in `head.bytes` as the lines they
/// came in are copied at once. Hop-by-hop fields and what Connection nominates stay behind (RFC 9110 section 7.6.1), and the framing
/// fields say what `framing` says.
public enum MessageEncoder {
    /// The longest that `encodeChunkHeader` writes.
    public static let maxChunkHeaderBytes = 18

    /// Writes a request to an upstream, always as HTTP/1.1. Host is written from `head.authority`.
    ///
    /// - Parameter upgrade: whether Upgrade goes on: what the decoder's `wantsUpgrade` said and the route allows.
    public static func encodeRequestHead(_ head: Head, framing: Framing, upgrade: Bool = false, into output: inout ByteBuffer) {
        output.reserve(head.bytes.count &+ 128)
        let bytes = head.bytes
        let source = bytes.rawBytes
        output.append(source.extracting(head.methodRange))
        output.append(UInt8(ascii: " "))
        output.append(source.extracting(head.method == .connect ? head.authority : head.target))
        output.append(" HTTP/1.1\r\n")
        var connection = ConnectionOptions()
        connection.upgrade = upgrade
        encodeFields(head, source, isRequest: true, framing: framing, &connection, into: &output)
    }

    /// Writes a final response, or 101, to a caller who speaks HTTP/1.`toMinorVersion`.
    ///
    /// - Parameters:
    ///   - framing: where the body ends. `.none` leaves a Content-Length that is there, as HEAD and 304 need it.
    ///   - keepAlive: whether the connection stays open, as far as it is for us to say.
    /// - Returns: the framing in which the body is to be sent. HTTP/1.0 has no chunks, so a chunked body ends with the connection there;
    ///   and a body that ends with the upstream's connection is sent to a 1.1 caller in chunks, which keeps his connection.
    @discardableResult
    public static func encodeResponseHead(
        _ head: Head, framing: Framing, keepAlive: Bool, toMinorVersion minorVersion: Int, upgrade: Bool = false,
        into output: inout ByteBuffer
    ) -> Framing {
        let framing = outgoing(framing, minorVersion)
        output.reserve(head.bytes.count &+ 128)
        encodeStatusLine(head, into: &output)
        let bytes = head.bytes
        var connection = ConnectionOptions()
        connection.upgrade = upgrade
        if !upgrade {
            let staysOpen = keepAlive && framing != .untilClose
            connection.close = !staysOpen
            connection.keepAlive = staysOpen && minorVersion == 0
        }
        encodeFields(head, bytes.rawBytes, isRequest: false, framing: framing, &connection, into: &output)
        return framing
    }

    /// Passes on a 1xx response. Not for HTTP/1.0 callers, who know none (RFC 9110 section 15.2).
    public static func encodeInterimHead(_ head: Head, into output: inout ByteBuffer) {
        encodeStatusLine(head, into: &output)
        let bytes = head.bytes
        var connection = ConnectionOptions()
        encodeFields(head, bytes.rawBytes, isRequest: false, framing: .none, &connection, into: &output)
    }

    public static func encodeContinue(into output: inout ByteBuffer) {
        output.append("HTTP/1.1 100 Continue\r\n\r\n")
    }

    /// Precedes `size` bytes of a chunk, which `encodeChunkEnd` follows.
    @inline(__always)
    public static func encodeChunkHeader(_ size: Int, into output: inout ByteBuffer) {
        precondition(size > 0, "a chunk of \(size) bytes would end the body")
        output.append(hexadecimal: size)
        output.append("\r\n")
    }

    @inline(__always)
    public static func encodeChunkEnd(into output: inout ByteBuffer) {
        output.append("\r\n")
    }

    /// Ends a chunked body. Fields that must not stand in a trailer section are left out.
    public static func encodeLastChunk(_ trailers: Head? = nil, into output: inout ByteBuffer) {
        output.append("0\r\n")
        if let trailers, !trailers.fields.isEmpty {
            let bytes = trailers.bytes
            var run = LineRun()
            for field in trailers.fields where field.isAllowedInTrailers(trailers) {
                run.append(field, bytes.rawBytes, into: &output)
            }
            run.flush(bytes.rawBytes, into: &output)
        }
        output.append("\r\n")
    }

    private static func outgoing(_ framing: Framing, _ minorVersion: Int) -> Framing {
        switch framing {
        case .chunked where minorVersion == 0: .untilClose
        case .untilClose where minorVersion > 0: .chunked
        default: framing
        }
    }

    private static func encodeStatusLine(_ head: Head, into output: inout ByteBuffer) {
        output.append("HTTP/1.1 ")
        precondition(head.status >= 100 && head.status <= 999, "a status of \(head.status)")
        output.append(0x30 &+ UInt8(truncatingIfNeeded: head.status / 100))
        output.append(0x30 &+ UInt8(truncatingIfNeeded: head.status / 10 % 10))
        output.append(0x30 &+ UInt8(truncatingIfNeeded: head.status % 10))
        output.append(UInt8(ascii: " "))
        if head.reason.isEmpty {
            output.append(standardReason(head.status))
        } else {
            output.append(head.bytes, head.reason)
        }
        output.append("\r\n")
    }

    private static func encodeFields(
        _ head: Head, _ source: RawSpan, isRequest: Bool, framing: Framing, _ connection: inout ConnectionOptions,
        into output: inout ByteBuffer
    ) {
        let fields = head.fields
        var nominates = false
        var hasHost = false
        for field in fields where field.known != .other {
            switch field.known {
            case .connection: nominates = nominates || source.nominatesOthers(field.value)
            case .te where isRequest: connection.trailers = connection.trailers || source.acceptsTrailers(field.value)
            case .host: hasHost = true
            default: break
            }
        }
        if isRequest, !hasHost { encodeHost("host", head, source, into: &output) }

        var run = LineRun()
        var owesHost = isRequest
        var owesFraming = true
        var owesTE = connection.trailers
        var owesConnection = !connection.isEmpty
        for field in fields {
            switch field.known {
            case .other:
                guard nominates, field.isNominated(head, source), !field.isEndToEnd(head) else { break }
                continue
            case .host where isRequest:
                guard owesHost else { continue }
                owesHost = false
                if field.value != head.authority {
                    run.flush(source, into: &output)
                    output.append(source.extracting(field.name))
                    encodeHost("", head, source, into: &output)
                    continue
                }
            case .contentLength:
                switch framing {
                case .length(let length):
                    guard owesFraming else { continue }
                    owesFraming = false
                    if contentLength(source, field.value) != length {
                        run.flush(source, into: &output)
                        output.append(source.extracting(field.name))
                        output.append(": ")
                        output.append(decimal: Int(length))
                        output.append("\r\n")
                        continue
                    }
                case .none where !isRequest: break
                default: continue
                }
            case .transferEncoding:
                guard framing == .chunked, owesFraming, source.equals(field.value, "chunked") else { continue }
                owesFraming = false
            case .connection:
                guard owesConnection else { continue }
                owesConnection = false
                run.flush(source, into: &output)
                output.append(source.extracting(field.name))
                connection.encode(into: &output)
                continue
            case .te:
                guard owesTE else { continue }
                owesTE = false
                if !source.equals(field.value, "trailers") {
                    run.flush(source, into: &output)
                    output.append(source.extracting(field.name))
                    output.append(": trailers\r\n")
                    continue
                }
            case .upgrade:
                guard connection.upgrade else { continue }
            case .keepAlive, .proxyConnection, .http2Settings:
                continue
            default:
                break
            }
            run.append(field, source, into: &output)
        }
        run.flush(source, into: &output)

        if owesFraming {
            switch framing {
            case .length(let length):
                output.append("content-length: ")
                output.append(decimal: Int(length))
                output.append("\r\n")
            case .chunked:
                output.append("transfer-encoding: chunked\r\n")
            case .none, .untilClose:
                break
            }
        }
        if owesConnection {
            output.append("connection")
            connection.encode(into: &output)
        }
        output.append("\r\n")
    }

    private static func encodeHost(_ name: StaticString, _ head: Head, _ source: RawSpan, into output: inout ByteBuffer) {
        output.append(name)
        output.append(": ")
        output.append(source.extracting(head.authority))
        output.append("\r\n")
    }
}

/// What our own Connection field says.
private struct ConnectionOptions {
    var close = false
    var keepAlive = false
    var upgrade = false
    /// `TE: trailers` is passed on, and RFC 9110 section 10.1.4 wants TE nominated.
    var trailers = false

    var isEmpty: Bool { !close && !keepAlive && !upgrade && !trailers }

    /// What follows the field's name.
    func encode(into output: inout ByteBuffer) {
        output.append(": ")
        if upgrade { output.append("upgrade") }
        if close { output.append("close") }
        if keepAlive { output.append("keep-alive") }
        if trailers { output.append(upgrade ? ", te" : "te") }
        output.append("\r\n")
    }
}

/// Kept field lines that follow each other in the head's bytes, waiting to be copied at once.
private struct LineRun {
    private var start = 0
    private var end = 0

    /// Appends the field: to the run if it stands in `source` as a line that continues it.
    ///
    /// A field of HTTP/2, one that was added, or one whose value was replaced is no line; it is written on its own.
    @inline(__always)
    mutating func append(_ field: Head.Field, _ source: RawSpan, into output: inout ByteBuffer) {
        let nameStart = Int(field.nameStart)
        let nameEnd = Int(field.nameEnd)
        let valueStart = Int(field.valueStart)
        let valueEnd = Int(field.valueEnd)
        // `pair` checks that the ranges lie in the source; a field that was changed may have them in any order.
        if valueStart == nameEnd &+ 2, valueStart <= valueEnd, valueEnd &+ 2 <= source.byteCount, source.pair(nameEnd) == 0x203A,
            source.pair(valueEnd) == 0x0A0D
        {
            if nameStart != end {
                flush(source, into: &output)
                start = nameStart
            }
            end = valueEnd &+ 2
            return
        }
        flush(source, into: &output)
        output.append(source.extracting(nameStart..<nameEnd))
        output.append(": ")
        output.append(source.extracting(valueStart..<valueEnd))
        output.append("\r\n")
    }

    @inline(__always)
    mutating func flush(_ source: RawSpan, into output: inout ByteBuffer) {
        guard end > start else { return }
        output.append(source.extracting(start..<end))
        start = end
    }
}

/// The reason phrase for a status that came without one; empty for one that we do not know.
private func standardReason(_ status: Int) -> StaticString {
    switch status {
    case 100: "Continue"
    case 101: "Switching Protocols"
    case 103: "Early Hints"
    case 200: "OK"
    case 201: "Created"
    case 202: "Accepted"
    case 204: "No Content"
    case 206: "Partial Content"
    case 301: "Moved Permanently"
    case 302: "Found"
    case 303: "See Other"
    case 304: "Not Modified"
    case 307: "Temporary Redirect"
    case 308: "Permanent Redirect"
    case 400: "Bad Request"
    case 401: "Unauthorized"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 408: "Request Timeout"
    case 409: "Conflict"
    case 411: "Length Required"
    case 412: "Precondition Failed"
    case 413: "Content Too Large"
    case 414: "URI Too Long"
    case 415: "Unsupported Media Type"
    case 416: "Range Not Satisfiable"
    case 417: "Expectation Failed"
    case 421: "Misdirected Request"
    case 422: "Unprocessable Content"
    case 426: "Upgrade Required"
    case 429: "Too Many Requests"
    case 431: "Request Header Fields Too Large"
    case 500: "Internal Server Error"
    case 501: "Not Implemented"
    case 502: "Bad Gateway"
    case 503: "Service Unavailable"
    case 504: "Gateway Timeout"
    case 505: "HTTP Version Not Supported"
    default: ""
    }
}
