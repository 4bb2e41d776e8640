import Base
import Foundation
import ProxyConfig
import TestSupport
import Transport

/// Reads a file as the proxy does.
func readFile(_ path: String) throws -> [UInt8] {
    guard let bytes = FileManager.default.contents(atPath: path) else { throw TestFailure("No such file or directory") }
    return Array(bytes)
}

/// Seconds since 1970.
func now() -> Int64 { Int64(time(nil)) }

extension TLSContext {
    static func server(_ tls: DownstreamTLS) throws -> TLSContext { try server(tls, now: now(), files: readFile) }
    static func client(_ tls: UpstreamTLS) throws -> TLSContext { try client(tls, now: now(), files: readFile) }
}

extension TestCertificates.Pair {
    var source: CertificateSource { .file(chain: chain, privateKey: key) }
}

/// Two sessions and the bytes between them, which a test may cut, change or drop.
final class Wire {
    let client: TLSSession
    let server: TLSSession
    /// What each has read in plaintext.
    private(set) var atServer: [UInt8] = []
    private(set) var atClient: [UInt8] = []
    /// How each ended, if it did.
    private(set) var serverEnd: End?
    private(set) var clientEnd: End?
    /// The longest piece that is handed over at once.
    var piece = Int.max
    /// Whatever is handed over comes in two parts, the first of so many bytes.
    var cut = 0
    private(set) var longestDelivery = 0

    enum End: Equatable {
        case closed
        case failed(TLSError)
    }

    init(client: TLSSession, server: TLSSession) {
        self.client = client
        self.server = server
    }

    convenience init(_ client: TLSContext, _ server: TLSContext, serverName: String? = nil, resume: TLSResumption? = nil) {
        self.init(
            client: TLSSession(client: client, serverName: serverName, resume: resume), server: TLSSession(server: server))
    }

    /// Lets both work until neither has anything to say.
    func run() {
        if clientEnd == nil, case .failed(let error) = client.handshake() { clientEnd = .failed(error) }
        while !client.outgoing.isEmpty || !server.outgoing.isEmpty {
            deliver(client.taken(), to: server, &atServer, &serverEnd)
            deliver(server.taken(), to: client, &atClient, &clientEnd)
        }
    }

    /// For messages of tests.
    var ends: String { "client \(String(describing: clientEnd)), server \(String(describing: serverEnd))" }

    /// Both have agreed.
    var isEstablished: Bool { client.isEstablished && server.isEstablished && clientEnd == nil && serverEnd == nil }

    func deliverToServer(_ bytes: [UInt8]) { deliver(bytes, to: server, &atServer, &serverEnd) }
    func deliverToClient(_ bytes: [UInt8]) { deliver(bytes, to: client, &atClient, &clientEnd) }

    private func deliver(_ bytes: [UInt8], to session: TLSSession, _ read: inout [UInt8], _ end: inout End?) {
        var position = 0
        longestDelivery = max(longestDelivery, bytes.count)
        while position < bytes.count, end == nil {
            let count = min(position == 0 && cut > 0 ? cut : piece, bytes.count - position)
            // A copy of its own size, so that the address sanitizer sees who reads beyond it or keeps it.
            let lent = Array(bytes[position..<position + count])
            unsafe lent.withUnsafeBytes { unsafe take($0, session, &read, &end) }
            position += count
        }
    }

    private func take(_ bytes: UnsafeRawBufferPointer, _ session: TLSSession, _ read: inout [UInt8], _ end: inout End?) {
        unsafe session.feed(bytes)
        if !session.isEstablished {
            switch session.handshake() {
            case .needMore: return
            case .failed(let error): return end = .failed(error)
            case .done: break
            }
        }
        var room = [UInt8](repeating: 0, count: 20_000)
        while true {
            switch unsafe room.withUnsafeMutableBytes({ unsafe session.read(into: $0) }) {
            case .bytes(let count): read += room[..<count]
            case .needMore: return
            case .end: return end = .closed
            case .failed(let error): return end = .failed(error)
            }
        }
    }
}

extension TLSSession {
    /// What waits for the wire, taken off.
    func taken() -> [UInt8] {
        let bytes = unsafe outgoing.withUnsafeBytes { unsafe Array($0) }
        outgoing.consume(bytes.count)
        return bytes
    }

    func write(_ text: String) {
        unsafe Array(text.utf8).withUnsafeBytes { unsafe write($0) }
    }

    func write(_ bytes: [UInt8]) {
        unsafe bytes.withUnsafeBytes { unsafe write($0) }
    }
}
