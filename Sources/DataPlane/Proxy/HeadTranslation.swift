import Base
import HTTP
import Transport

// Upgrades have two forms: `Upgrade` with 101 in HTTP/1.1 (RFC 9110 section 7.8), extended CONNECT with 200 in HTTP/2 (RFC 8441). A
// stream sees the first form only; the HTTP/2 sides translate, so that a WebSocket goes through any pairing.
extension Head {
    /// A request by extended CONNECT becomes the GET with Upgrade that it stands for.
    func becomeUpgrade(protocol name: Range<Int>) {
        let value = Array(bytes[name])
        let start = bytes.count
        bytes.append(contentsOf: "GET".utf8)
        methodRange = start..<bytes.count
        method = .get
        append(name: "upgrade", value: value, known: .upgrade)
        append(name: "connection", value: "upgrade".utf8, known: .connection)
        if !fields.contains(where: { equals($0.name, "sec-websocket-key") }) {
            append(name: "sec-websocket-key", value: webSocketKey())
        }
    }

    /// What a GET with Upgrade asks for, as extended CONNECT names it.
    var upgradeProtocol: Range<Int>? { first(.upgrade)?.value }

    /// A 101 becomes the 200 of extended CONNECT.
    func endUpgrade() {
        status = 200
        reason = 0..<0
        fields.removeAll { $0.known == .upgrade || $0.known == .connection || equals($0.name, "sec-websocket-accept") }
    }

    /// A 2xx to extended CONNECT becomes the 101 that the caller's Upgrade waits for.
    func acceptUpgrade(of request: Head) {
        status = 101
        reason = 0..<0
        if let field = request.first(.upgrade) { append(name: "upgrade", value: request.bytes[field.value], known: .upgrade) }
        append(name: "connection", value: "upgrade".utf8, known: .connection)
        guard let key = request.fields.first(where: { request.equals($0.name, "sec-websocket-key") }) else { return }
        append(name: "sec-websocket-accept", value: webSocketAccept(key: request.bytes[key.value]))
    }

    // MARK: gRPC

    /// A trailers-only response: the status stands in the head, and nothing follows.
    func makeGRPCReply(status code: UInt32, message: [UInt8]) {
        status = 200
        append(name: "content-type", value: "application/grpc".utf8, known: .contentType)
        setDecimal(Int64(code), name: "grpc-status", known: .grpcStatus)
        var text: [UInt8] = []
        let end = message.last == UInt8(ascii: "\n") ? message.count - 1 : message.count
        GRPC.encodeMessage(message.span.extracting(0..<end), into: &text)
        append(name: "grpc-message", value: text)
    }

    /// The time that is left, for the next hop.
    func setGRPCTimeout(_ left: Nanoseconds) {
        fields.removeAll { $0.known == .grpcTimeout }
        let start = bytes.count
        bytes.append(contentsOf: "grpc-timeout".utf8)
        let middle = bytes.count
        GRPC.writeTimeout(left, into: &bytes)
        fields.append(Field(name: start..<middle, value: middle..<bytes.count, known: .grpcTimeout))
    }
}
