import Glibc
import Testing

/// The tables of the pages in `docs/`.
enum Documentation {
    /// The second cell of each row that begins with a name in code, by that name.
    static func rows(_ page: String) throws -> [String: String] {
        let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let file = unsafe open("/\(root)/docs/\(page)", O_RDONLY)
        try #require(file >= 0)
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = unsafe read(file, &bytes, bytes.count)
        var rows: [String: String] = [:]
        for line in String(decoding: bytes[..<count], as: UTF8.self).split(separator: "\n") where line.hasPrefix("| `") {
            let cells = line.split(separator: "|").map { cell in cell.filter { $0 != "`" && $0 != " " } }
            let name = try #require(cells.first)
            #expect(rows.updateValue(cells.count > 1 ? cells[1] : "", forKey: name) == nil, "\(name) stands twice")
        }
        return rows
    }
}
