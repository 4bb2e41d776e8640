import Base
import Foundation
import Glibc

/// One request to the admin interface of a proxy: HTTP/1.1 over a connection of its own, with a deadline.
struct AdminCall {
    private let address: SocketAddress

    private static let timeout = 10
    private static let longestAnswer = 16 << 20

    init(_ text: String) throws {
        guard let address = SocketAddress(text) else { throw Failure(message: "--admin: expected IP:PORT, found \"\(text)\"") }
        self.address = address
    }

    func get(_ path: String) throws -> String { try call("GET", path) }
    func post(_ path: String) throws -> String { try call("POST", path) }

    private func call(_ method: String, _ path: String) throws -> String {
        let descriptor = try connect()
        defer { close(descriptor) }
        var rest = Array("\(method) \(path) HTTP/1.1\r\nHost: \(address)\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".utf8)[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe send(descriptor, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
            guard count > 0 else { throw failure("cannot be written to") }
            rest = rest.dropFirst(count)
        }
        var answer: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while answer.count < Self.longestAnswer {
            let count = unsafe chunk.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress, $0.count) }
            if count == 0 { break }
            guard count > 0 else { throw failure("does not answer") }
            answer += chunk[..<count]
        }
        let text = String(decoding: answer, as: UTF8.self)
        guard let end = text.range(of: "\r\n\r\n"), text.hasPrefix("HTTP/1."), let status = Int(text.dropFirst(9).prefix(3)) else {
            throw failure("does not speak HTTP")
        }
        let body = String(text[end.upperBound...])
        guard status == 200 else { throw Failure(message: harmless(body.isEmpty ? "status \(status)" : String(body.prefix(2000)))) }
        return body
    }

    private func failure(_ what: String) -> Failure {
        Failure(message: "the admin interface at \(address) \(what): \(unsafe String(cString: strerror(errno)))")
    }

    private func connect() throws -> CInt {
        let family: CInt = if case .v4 = address.ip { AF_INET } else { AF_INET6 }
        let descriptor = socket(family, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw failure("cannot be asked") }
        var time = timeval(tv_sec: Self.timeout, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, size)
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, size)
        var result: CInt
        switch address.ip {
        case .v4(let bits):
            var name = sockaddr_in()
            name.sin_family = sa_family_t(AF_INET)
            name.sin_port = address.port.bigEndian
            name.sin_addr.s_addr = bits.bigEndian
            result = unsafe withUnsafePointer(to: &name) {
                unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    unsafe Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
        case .v6(let high, let low):
            var name = sockaddr_in6()
            name.sin6_family = sa_family_t(AF_INET6)
            name.sin6_port = address.port.bigEndian
            unsafe withUnsafeMutableBytes(of: &name.sin6_addr) { bytes in
                unsafe bytes.storeBytes(of: high.bigEndian, as: UInt64.self)
                unsafe bytes.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
            }
            result = unsafe withUnsafePointer(to: &name) {
                unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    unsafe Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in6>.size))
                }
            }
        }
        guard result == 0 else {
            let error = failure("cannot be reached")
            close(descriptor)
            throw error
        }
        return descriptor
    }
}
