public import Base
import Glibc

extension Socket {
    /// The addresses of this machine's interfaces (in its network namespace), loopback included. Empty where the kernel does not tell.
    public static func localAddresses() -> Set<IPAddress> {
        var first: UnsafeMutablePointer<ifaddrs>?
        guard unsafe getifaddrs(&first) == 0 else { return [] }
        defer { unsafe freeifaddrs(first) }
        var addresses: Set<IPAddress> = []
        var next = unsafe first
        while let interface = unsafe next {
            unsafe next = interface.pointee.ifa_next
            guard let address = unsafe interface.pointee.ifa_addr else { continue }
            let raw = UnsafeRawPointer(address)
            switch unsafe CInt(address.pointee.sa_family) {
            case AF_INET:
                addresses.insert(unsafe .v4(UInt32(bigEndian: raw.loadUnaligned(as: sockaddr_in.self).sin_addr.s_addr)))
            case AF_INET6:
                let bytes = unsafe raw + MemoryLayout<sockaddr_in6>.offset(of: \.sin6_addr)!
                addresses.insert(
                    unsafe .v6(
                        UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)),
                        UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))))
            default: break
            }
        }
        return addresses
    }
}
