/// What changed between two states, object by object.
public struct ObjectDifference: Hashable, Sendable {
    public var key: ObjectKey
    public var action: ChangePlan.Action
    /// Unified, with three lines around each change: `--- a`, `+++ b`, `@@ -1,4 +1,5 @@`.
    public var text: String
}

extension DesiredState {
    /// In the order of keys; the texts count here, so that a comment that changed along with something else is seen.
    public func differences(to other: DesiredState) -> [ObjectDifference] {
        var result: [ObjectDifference] = []
        for key in Set(objects.keys).union(other.objects.keys).sorted() {
            let before = objects[key]
            let after = other.objects[key]
            guard before?.document != after?.document else { continue }
            let action: ChangePlan.Action = before == nil ? .created : after == nil ? .deleted : .configured
            let text = TextDifference.unified(
                before?.document ?? "", after?.document ?? "",
                from: before.map { "\(key) (revision \($0.revision))" } ?? "/dev/null",
                to: after.map { "\(key) (revision \($0.revision))" } ?? "/dev/null")
            result.append(ObjectDifference(key: key, action: action, text: text))
        }
        return result
    }
}

/// Differences of texts, line by line.
public enum TextDifference {
    private static let context = 3
    /// Of one text, in lines. The time for a difference grows with lines times changes; longer texts are shown as replaced whole.
    private static let maxLines = 5000

    fileprivate enum Line {
        case both(Substring)
        case removed(Substring)
        case added(Substring)
    }

    /// Empty for equal texts.
    public static func unified(_ before: String, _ after: String, from: String, to: String) -> String {
        if before == after { return "" }
        let script = script(lines(of: before), lines(of: after))
        var text = "--- \(from)\n+++ \(to)\n"
        var index = 0
        var oldLine = 1
        var newLine = 1
        while index < script.count {
            guard let change = script[index...].firstIndex(where: \.isChange) else { break }
            let start = max(index, change - context)
            oldLine += start - index
            newLine += start - index
            var end = change + 1
            var quiet = 0
            // A hunk goes on until more lines are alike than both of its neighbours show.
            while end + quiet < script.count, quiet <= 2 * context {
                if script[end + quiet].isChange {
                    end += quiet + 1
                    quiet = 0
                } else {
                    quiet += 1
                }
            }
            end = min(end + context, script.count)
            let hunk = script[start..<end]
            let old = hunk.count { if case .added = $0 { false } else { true } }
            let new = hunk.count { if case .removed = $0 { false } else { true } }
            text += "@@ -\(range(oldLine, old)) +\(range(newLine, new)) @@\n"
            for line in hunk {
                switch line {
                case .both(let line): text += " \(line)\n"
                case .removed(let line): text += "-\(line)\n"
                case .added(let line): text += "+\(line)\n"
                }
            }
            oldLine += old
            newLine += new
            index = end
        }
        return text
    }

    /// As diff writes it: one line has no count, no line stands behind the line before.
    private static func range(_ start: Int, _ count: Int) -> String {
        count == 1 ? "\(start)" : "\(count == 0 ? start - 1 : start),\(count)"
    }

    private static func lines(of text: String) -> [Substring] {
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        if lines.last == "" { lines.removeLast() }
        return lines
    }

    private static func script(_ before: [Substring], _ after: [Substring]) -> [Line] {
        guard before.count <= maxLines, after.count <= maxLines else { return before.map { .removed($0) } + after.map { .added($0) } }
        let difference = after.difference(from: before)
        var removed: Set<Int> = []
        var added: Set<Int> = []
        for change in difference {
            switch change {
            case .remove(let offset, _, _): removed.insert(offset)
            case .insert(let offset, _, _): added.insert(offset)
            }
        }
        var script: [Line] = []
        var old = 0
        var new = 0
        while old < before.count || new < after.count {
            if removed.contains(old) {
                script.append(.removed(before[old]))
                old += 1
            } else if added.contains(new) {
                script.append(.added(after[new]))
                new += 1
            } else {
                script.append(.both(before[old]))
                old += 1
                new += 1
            }
        }
        return script
    }
}

extension TextDifference.Line {
    fileprivate var isChange: Bool { if case .both = self { false } else { true } }
}
