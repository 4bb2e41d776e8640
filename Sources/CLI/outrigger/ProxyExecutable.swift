import Glibc

/// Where `outrigger-proxy` is.
enum ProxyExecutable {
    static let name = "outrigger-proxy"

    static func find(_ given: String?) throws -> String {
        if let given {
            guard isExecutable(given) else { throw Failure(message: "--proxy \(given): not an executable file", status: Failure.usage) }
            return given
        }
        var looked: [String] = []
        if let own = ownDirectory() { looked.append("\(own)/\(name)") }
        let path = unsafe getenv("PATH").map { unsafe String(cString: $0) } ?? ""
        looked += path.split(separator: ":").map { "\($0)/\(name)" }
        if let found = looked.first(where: isExecutable) { return found }
        throw Failure(message: "\(name) is neither beside this program nor in PATH; name it with --proxy PATH")
    }

    private static func ownDirectory() -> String? {
        var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = unsafe buffer.withUnsafeMutableBytes { unsafe readlink("/proc/self/exe", $0.baseAddress!, $0.count) }
        guard count > 0 else { return nil }
        let path = String(decoding: buffer[..<count], as: UTF8.self)
        return path.lastIndex(of: "/").map { String(path[..<$0]) }
    }

    private static func isExecutable(_ path: String) -> Bool {
        var status = stat()
        return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG && access(path, X_OK) == 0
    }
}
