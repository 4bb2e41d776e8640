import Base
import Fuzzing
import Glibc
import ProxyConfig
import Transport

@c(LLVMFuzzerInitialize)
public func initialize(_ count: UnsafeMutablePointer<CInt>?, _ words: UnsafeMutableRawPointer?) -> CInt {
    ClientHelloEntry.initialize()
}

@c(LLVMFuzzerTestOneInput)
public func test(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    unsafe ClientHelloEntry.run(data, count)
}

/// What chooses the filter chain of a TLS connection, against OpenSSL, which serves it then: a shape of the cuts and the bytes.
///
/// Were the two to read another server name, a caller could choose a chain by one name and be served under another.
enum ClientHelloEntry: FuzzEntry {
    /// scripts/fuzz makes the certificate.
    private static let server: TLSContext = {
        guard let folder = unsafe getenv("OUTRIGGER_FUZZ_CERTIFICATES").map({ unsafe String(cString: $0) }) else {
            fatalError("OUTRIGGER_FUZZ_CERTIFICATES: expected a folder with pair.pem and pair.key")
        }
        let files = CertificateSource.file(chain: "\(folder)/pair.pem", privateKey: "\(folder)/pair.key")
        return try! TLSContext.server(DownstreamTLS(certificate: files, alpn: ["h2", "http/1.1"]), now: Int64(time(nil)), files: read)
    }()

    static func test(_ input: [UInt8]) {
        var reader = InputReader(input)
        let shape = reader.byte()
        let bytes = reader.remainder()
        let whole = unsafe bytes.withUnsafeBytes { unsafe ClientHello.read($0) }

        // The bytes so far, as a connection has them. An answer is final.
        var cutter = InputReader([shape])
        for cut in cutter.cuts(bytes.count) {
            let part = unsafe Array(bytes[..<cut]).withUnsafeBytes { unsafe ClientHello.read($0) }
            require(part == .needMore || part == whole, "after \(cut) bytes \(part), after all \(whole)")
        }

        let session = TLSSession(server: server)
        let result = unsafe bytes.withUnsafeBytes { buffer in
            unsafe session.feed(buffer)
            return session.handshake()
        }
        let name = session.serverName?.lowercased()
        switch whole {
        case .complete(let hello):
            // OpenSSL forgets the name of a hello that it refuses.
            if let name { require(hello.serverName == name, "we read \(hello.serverName ?? "no name"), OpenSSL \(name)") }
            if case .needMore = result, !session.outgoing.isEmpty {
                require(hello.serverName == name, "we read \(hello.serverName ?? "no name"), OpenSSL \(name ?? "none")")
            }
        case .needMore:
            require(name == nil, "we wait, OpenSSL has read \(name ?? "")")
        case .notTLS, .malformed:
            // Refused by us, so that OpenSSL never sees it.
            break
        }
    }

    static func seeds() throws -> [[UInt8]] {
        var seeds: [[UInt8]] = []
        for protocols in [[], ["h2"], ["http/1.1"], ["h2", "http/1.1", "other"]] {
            let client = try TLSContext.client(UpstreamTLS(validation: nil, alpn: protocols), now: 0, files: read)
            for name in [nil, "a.example", "UPPER.example", "127.0.0.1"] as [String?] {
                let session = TLSSession(client: client, serverName: name)
                _ = session.handshake()
                let hello = unsafe Array(session.outgoing.unsafeBytes)
                seeds.append([1] + hello)
                seeds.append([7] + inRecords(hello, of: 50))
            }
        }
        seeds.append([1] + Array("GET / HTTP/1.1\r\n\r\n".utf8))
        seeds.append([1, 0x80, 0x2e, 1, 3, 1] + [UInt8](repeating: 0, count: 50))
        return seeds
    }

    private static func read(_ path: String) throws -> [UInt8] {
        guard let file = unsafe fopen(path, "r") else { throw FuzzFailure("cannot read \(path): errno \(errno)") }
        defer { unsafe _ = fclose(file) }
        return unsafe [UInt8](unsafeUninitializedCapacity: 1 << 16) { $1 = unsafe fread($0.baseAddress, 1, $0.count, file) }
    }

    /// The same message in several records.
    private static func inRecords(_ record: [UInt8], of size: Int) -> [UInt8] {
        var message = record.dropFirst(5)
        var records: [UInt8] = []
        while !message.isEmpty {
            let piece = message.prefix(size)
            records += record[..<3] + [0, UInt8(piece.count)] + piece
            message = message.dropFirst(size)
        }
        return records
    }
}
