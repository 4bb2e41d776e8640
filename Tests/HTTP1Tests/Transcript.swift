import Base
import HTTP
import HTTP1

/// What a decoder says about some bytes, as text: one line a message head, its body, its end or the refusal.
enum Transcript {
    static func requests(_ text: String, cutAt cuts: [Int] = [], limits: MessageLimits = MessageLimits()) -> [String] {
        requests(Array(text.utf8), cutAt: cuts, limits: limits)
    }

    static func requests(_ bytes: [UInt8], cutAt cuts: [Int] = [], limits: MessageLimits = MessageLimits()) -> [String] {
        var decoder = RequestDecoder(limits: limits)
        return run(bytes, cuts) { bytes, position, head, trailers, lines throws(HTTP1Error) in
            let event = try decoder.next(bytes, at: &position, head: head, trailers: trailers)
            if event == .head {
                var facts = "\(decoder.framing)"
                if !decoder.keepsAlive { facts += " close" }
                if decoder.expectsContinue { facts += " expects" }
                if decoder.wantsUpgrade { facts += " upgrade" }
                lines.append(
                    "\(head.string(head.methodRange)) \(head.string(head.target)) 1.\(head.minorVersion) @\(head.string(head.authority))"
                        + " \(fields(head)) \(facts)")
            }
            return event
        }
    }

    /// Decodes responses to these methods, one after the other; `eof` ends the connection behind the bytes.
    static func responses(
        _ text: String, to methods: [Method] = [.get], upgrade: Bool = false, eof: Bool = false, cutAt cuts: [Int] = []
    ) -> [String] {
        var decoder = ResponseDecoder()
        var expected = methods[...]
        if let method = expected.popFirst() { decoder.expectResponse(to: method, upgrade: upgrade) }
        var result = run(Array(text.utf8), cuts) { bytes, position, head, trailers, lines throws(HTTP1Error) in
            let event = try decoder.next(bytes, at: &position, head: head, trailers: trailers)
            switch event {
            case .head, .interim:
                let kind = decoder.isTunnel ? "tunnel" : event == .interim ? "interim" : "\(decoder.framing)"
                lines.append(
                    "\(head.status) \(head.string(head.reason)) \(fields(head)) \(kind)\(decoder.keepsAlive ? "" : " close")")
            case .end:
                if let method = expected.popFirst() { decoder.expectResponse(to: method, upgrade: upgrade) }
            default: break
            }
            return event
        }
        if eof {
            do throws(HTTP1Error) {
                result.append(try decoder.finish() ? "complete" : "nothing open")
            } catch {
                result.append("\(error.details)")
            }
        }
        return result
    }

    /// Feeds the bytes up to each cut in turn, as a connection does: what was not consumed is given again.
    private static func run(
        _ bytes: [UInt8], _ cuts: [Int],
        _ next: (RawSpan, inout Int, Head, Head, inout [String]) throws(HTTP1Error) -> Event
    ) -> [String] {
        let head = Head()
        let trailers = Head()
        var lines: [String] = []
        var body: [UInt8] = []
        var start = 0
        for end in cuts + [bytes.count] {
            // A copy of its own, so that reading beyond the cut would be out of bounds.
            let piece = Array(bytes[start..<end])
            var position = 0
            do throws(HTTP1Error) {
                reading: while true {
                    switch try next(unsafe piece.span.bytes, &position, head, trailers, &lines) {
                    case .needMore: break reading
                    case .interim, .head: break
                    case .body(let range): body += piece[range]
                    case .end:
                        lines.append(
                            "end \(String(decoding: body, as: UTF8.self))" + (trailers.fields.isEmpty ? "" : " \(fields(trailers))"))
                        body = []
                    }
                }
            } catch {
                return lines + ["\(error.details)"]
            }
            start += position
        }
        if !body.isEmpty { lines.append("open \(String(decoding: body, as: UTF8.self))") }
        if start < bytes.count { lines.append("left \(bytes.count - start)") }
        return lines
    }

    private static func fields(_ head: Head) -> String {
        "[" + head.fields.map { "\(head.string($0.name)): \(head.string($0.value))" }.joined(separator: "|") + "]"
    }
}
