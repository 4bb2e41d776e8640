import Foundation

/// An HTTP/1 message as a test sees it: read leniently and separately from the code that is tested.
public struct HTTPMessage: Sendable {
    /// Start line and fields with the empty line, as they came.
    public var head: [UInt8]
    /// Decoded from chunks where it came in chunks.
    public var body: [UInt8]
    public var isChunked = false
    /// The lines between the last chunk and the end.
    public var trailers: [String] = []

    public init(head: [UInt8], body: [UInt8]) {
        self.head = head
        self.body = body
    }

    public var headText: String { String(decoding: head, as: UTF8.self) }
    public var bodyText: String { String(decoding: body, as: UTF8.self) }
    public var lines: [String] { headText.components(separatedBy: "\r\n").filter { !$0.isEmpty } }
    public var startLine: String { lines.first ?? "" }
    /// The lines of the fields, in order.
    public var fields: [String] { Array(lines.dropFirst()) }
    public var status: Int { startLine.hasPrefix("HTTP/1.") ? Int(startLine.split(separator: " ").dropFirst().first ?? "") ?? 0 : 0 }
    public var method: String { String(startLine.prefix { $0 != " " }) }
    public var target: String { String(startLine.split(separator: " ").dropFirst().first ?? "") }

    public func values(_ name: String) -> [String] {
        fields.compactMap { line in
            guard let colon = line.firstIndex(of: ":"), line[..<colon].lowercased() == name.lowercased() else { return nil }
            return line[line.index(after: colon)...].trimmingPrefix { $0 == " " || $0 == "\t" }.description
        }
    }

    public func value(_ name: String) -> String? { values(name).first }
    public func has(_ name: String, _ word: String) -> Bool { values(name).contains { $0.lowercased().contains(word) } }
    public var saysClose: Bool { has("connection", "close") }
}

extension RawConnection {
    /// The next request: its head and as much body as the head announces. Nil when the caller has ended instead.
    public func readRequest(within limit: Duration = patience) throws -> HTTPMessage? {
        let first = try receive(within: limit)
        guard !first.isEmpty else { return nil }
        unread(first)
        return try readMessage(hasBody: true, within: limit)
    }

    /// The next response, interim ones included.
    ///
    /// - Parameter method: of the request: a response to HEAD has no body.
    public func readResponse(to method: String = "GET", within limit: Duration = patience) throws -> HTTPMessage {
        try readMessage(hasBody: method != "HEAD", within: limit)
    }

    private func readMessage(hasBody: Bool, within limit: Duration) throws -> HTTPMessage {
        var message = HTTPMessage(head: try read(until: "\r\n\r\n", within: limit), body: [])
        let status = message.status
        guard hasBody, !(100..<200).contains(status), status != 204, status != 304 else { return message }
        if message.has("transfer-encoding", "chunked") {
            message.isChunked = true
            while true {
                let line = String(decoding: try read(until: "\r\n", within: limit).dropLast(2), as: UTF8.self)
                guard let size = Int(line.prefix { $0 != ";" }, radix: 16) else { throw TestFailure("chunk size \(line)") }
                if size == 0 { break }
                message.body += try read(exactly: size, within: limit)
                guard try read(exactly: 2, within: limit) == [13, 10] else { throw TestFailure("no line end behind a chunk") }
            }
            while true {
                let line = String(decoding: try read(until: "\r\n", within: limit).dropLast(2), as: UTF8.self)
                if line.isEmpty { break }
                message.trailers.append(line)
            }
        } else if let length = message.value("content-length").flatMap({ Int($0) }) {
            message.body = try read(exactly: length, within: limit)
        } else if status != 0 {
            message.body = try readToEnd(within: limit).bytes
        }
        return message
    }

    /// Sends a request and reads its response.
    public func exchange(_ request: String, within limit: Duration = patience) throws -> HTTPMessage {
        try send(request, within: limit)
        return try readResponse(to: String(request.prefix { $0 != " " }), within: limit)
    }
}

extension Origin {
    /// An HTTP server that keeps connections alive and answers every request with the bytes that `answer` gives.
    public static func http(
        port: UInt16 = 0, at address: String = "127.0.0.1", records: Bool = true,
        _ answer: @escaping @Sendable (HTTPMessage) throws -> [UInt8]
    ) throws -> Origin {
        try Origin(port: port, at: address, records: records) { connection in
            while let request = try connection.readRequest(within: .seconds(600)) { try connection.send(try answer(request)) }
        }
    }

    /// The same answer to every request.
    public static func answering(_ text: String, port: UInt16 = 0, records: Bool = true) throws -> Origin {
        let answer = Array(text.utf8)
        return try http(port: port, records: records) { _ in answer }
    }
}

/// A whole 200 with this body.
public func ok(_ body: String = "ok", fields: String = "") -> String {
    "HTTP/1.1 200 OK\r\n\(fields)Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
}
