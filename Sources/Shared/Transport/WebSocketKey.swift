import COpenSSL

/// A new Sec-WebSocket-Key: 16 random bytes in base64 (RFC 6455 section 4.1).
public func webSocketKey() -> [UInt8] {
    var generator = SystemRandomNumberGenerator()
    return base64((0..<16).map { _ in UInt8.random(in: .min ... .max, using: &generator) })
}

/// The Sec-WebSocket-Accept that answers a Sec-WebSocket-Key: SHA-1 of the key and the protocol's GUID, in base64 (RFC 6455 section
/// 4.2.2). Needs no context, and does not start OpenSSL.
public func webSocketAccept(key: some Sequence<UInt8>) -> [UInt8] {
    let text = Array(key) + Array("258EAFA5-E914-47DA-95CA-C5AB0DC85B11".utf8)
    var digest = [UInt8](repeating: 0, count: 20)
    unsafe copenssl_sha1(text, text.count, &digest)
    return base64(digest)
}

private func base64(_ bytes: [UInt8]) -> [UInt8] {
    let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    var text: [UInt8] = []
    for start in stride(from: 0, to: bytes.count, by: 3) {
        let part = bytes[start..<min(start + 3, bytes.count)]
        var word = part.reduce(0) { $0 << 8 | Int($1) } << (8 * (3 - part.count))
        var digitsOfPart: [UInt8] = []
        for _ in 0..<4 {
            digitsOfPart.append(digits[word & 63])
            word >>= 6
        }
        text += digitsOfPart.reversed().prefix(part.count + 1)
        text += repeatElement(UInt8(ascii: "="), count: 3 - part.count)
    }
    return text
}
