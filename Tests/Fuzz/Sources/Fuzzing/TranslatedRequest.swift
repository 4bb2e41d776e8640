public import Base
public import HTTP
public import HTTP1

/// The law of translation: a request head that goes on as HTTP/1.1 is read at the other side as the one request that it was.
///
/// - Parameter head: with an authority; a request of HTTP/1.0 without one is not sent on.
public func requireOneRequest(_ head: Head, framing: Framing, upgrade: Bool) {
    var output = ByteBuffer()
    MessageEncoder.encodeRequestHead(head, framing: framing, upgrade: upgrade, into: &output)
    // It may have a field more than what was read.
    var decoder = RequestDecoder(limits: .roomy)
    let copy = Head()
    var position = 0
    do throws(HTTP1Error) {
        let event = try decoder.next(output.bytes, at: &position, head: copy, trailers: Head())
        require(event == .head && position == output.count, "one head was encoded, \(event) was read up to \(position): \(output.text)")
    } catch {
        fatalError("encoded, and then refused as \(error.details): \(output.text)")
    }
    require(copy.string(copy.methodRange) == head.string(head.methodRange), "the method changed: \(output.text)")
    require(head.method == .connect || copy.string(copy.target) == head.string(head.target), "the target changed: \(output.text)")
    require(copy.string(copy.authority) == head.string(head.authority), "the authority changed: \(output.text)")
    require(decoder.framing == framing, "the framing changed from \(framing) to \(decoder.framing): \(output.text)")
    require(!copy.contains(.keepAlive) && !copy.contains(.proxyConnection), "hop-by-hop fields went on: \(output.text)")
}

extension MessageLimits {
    public static var roomy: MessageLimits { MessageLimits(maxHeadBytes: 1 << 20, maxFields: 200, maxTargetBytes: 1 << 17) }
}

extension ByteBuffer {
    public var text: String { unsafe String(decoding: unsafeBytes, as: UTF8.self) }
}
