/// Finds what somebody meant who wrote something else.
enum Spelling {
    /// The candidate with the fewest changes, at most a third of the letters; nil if none is so near.
    static func nearest(to word: String, among candidates: [String]) -> String? {
        let scalars = Array(word.lowercased().unicodeScalars)
        guard scalars.count <= 64 else { return nil }
        let near = candidates.map { (name: $0, distance: distance(scalars, Array($0.lowercased().unicodeScalars))) }
        guard let best = near.min(by: { ($0.distance, $0.name) < ($1.distance, $1.name) }) else { return nil }
        return best.distance <= max(1, max(word.count, best.name.count) / 3) ? best.name : nil
    }

    /// Letters to insert, remove, replace, or swap with their neighbour.
    static func distance(_ left: [Unicode.Scalar], _ right: [Unicode.Scalar]) -> Int {
        var beforeLast: [Int] = []
        var last = Array(0...right.count)
        for i in 0..<left.count {
            var row = [i + 1]
            for j in 0..<right.count {
                var best = min(last[j] + (left[i] == right[j] ? 0 : 1), last[j + 1] + 1, row[j] + 1)
                if i > 0, j > 0, left[i] == right[j - 1], left[i - 1] == right[j] { best = min(best, beforeLast[j - 1] + 1) }
                row.append(best)
            }
            beforeLast = last
            last = row
        }
        return last[right.count]
    }
}
