import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListShareGroupOffsetsSpec;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.common.TopicPartition;

/**
 * Says of groups what Kafka's own client says: a line of JSON for each line that it reads, with the
 * groups whose names begin with that.
 */
public class GroupOracle {
    private final Admin admin;

    GroupOracle(Admin admin) {
        this.admin = admin;
    }

    public static void main(String[] args) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", args[0]));
             BufferedReader in = new BufferedReader(new InputStreamReader(System.in))) {
            ObjectMapper json = new ObjectMapper();
            GroupOracle oracle = new GroupOracle(admin);
            for (String prefix = in.readLine(); prefix != null; prefix = in.readLine()) {
                System.out.println(json.writeValueAsString(oracle.groups(prefix)));
            }
        }
    }

    private Map<String, Object> groups(String prefix) {
        Map<String, Object> found = new TreeMap<>();
        try {
            for (GroupListing group : admin.listGroups().all().get()) {
                if (group.groupId().startsWith(prefix)) {
                    found.put(group.groupId(), group(group));
                }
            }
        } catch (Exception error) {  // a group that has just gone: the test looks again
            found.put("error", String.valueOf(error));
        }
        return found;
    }

    private Map<String, Object> group(GroupListing listing) throws Exception {
        String id = listing.groupId();
        Map<String, Object> found = new HashMap<>();
        found.put("type", listing.type().get().toString());
        List<Object> members = new ArrayList<>();
        found.put("members", members);
        switch (listing.type().get()) {
            case SHARE -> {
                var group = admin.describeShareGroups(List.of(id)).all().get().get(id);
                found.put("state", group.groupState().toString());
                found.put("epoch", group.groupEpoch());
                group.members().forEach(member -> members.add(
                    member(member.clientId(), member.assignment().topicPartitions())));
                found.put("lags", shareLags(id));
            }
            case STREAMS -> {
                var group = admin.describeStreamsGroups(List.of(id)).all().get().get(id);
                found.put("state", group.groupState().toString());
                found.put("epoch", group.groupEpoch());
                Map<String, Collection<String>> topics = new HashMap<>();
                group.subtopologies().forEach(it -> topics.put(it.subtopologyId(), it.sourceTopics()));
                group.members().forEach(member -> {
                    List<TopicPartition> parts = new ArrayList<>();
                    member.assignment().activeTasks().forEach(task ->
                        topics.getOrDefault(task.subtopologyId(), List.of()).forEach(topic ->
                            task.partitions().forEach(it -> parts.add(new TopicPartition(topic, it)))));
                    members.add(member(member.clientId(), parts));
                });
                found.put("lags", lags(id));
            }
            default -> {
                var group = admin.describeConsumerGroups(List.of(id)).all().get().get(id);
                found.put("state", group.groupState().toString());
                found.put("epoch", group.groupEpoch().orElse(null));
                group.members().forEach(member -> members.add(
                    member(member.clientId(), member.assignment().topicPartitions())));
                found.put("lags", lags(id));
            }
        }
        return found;
    }

    private static Map<String, Object> member(String client, Collection<TopicPartition> parts) {
        Map<String, List<Integer>> topics = new TreeMap<>();
        parts.forEach(it -> topics.computeIfAbsent(it.topic(), key -> new ArrayList<>()).add(it.partition()));
        topics.values().forEach(numbers -> numbers.sort(null));
        return Map.of("client", client, "partitions", topics);
    }

    /** By topic and partition: the end of the log less what is committed. */
    private Map<String, Map<Integer, Long>> lags(String id) throws Exception {
        var asked = Map.of(id, new ListConsumerGroupOffsetsSpec());
        var commits = admin.listConsumerGroupOffsets(asked).all().get().get(id);
        Map<TopicPartition, OffsetSpec> ends = new HashMap<>();
        commits.forEach((part, commit) -> {
            if (commit != null) {
                ends.put(part, OffsetSpec.latest());
            }
        });
        Map<String, Map<Integer, Long>> lags = new TreeMap<>();
        for (var end : admin.listOffsets(ends).all().get().entrySet()) {
            TopicPartition part = end.getKey();
            put(lags, part, end.getValue().offset() - commits.get(part).offset());
        }
        return lags;
    }

    private Map<String, Map<Integer, Long>> shareLags(String id) throws Exception {
        var asked = Map.of(id, new ListShareGroupOffsetsSpec());
        Map<String, Map<Integer, Long>> lags = new TreeMap<>();
        admin.listShareGroupOffsets(asked).all().get().get(id).forEach((part, info) -> {
            if (info != null && info.lag().isPresent()) {
                put(lags, part, info.lag().get());
            }
        });
        return lags;
    }

    private static void put(Map<String, Map<Integer, Long>> lags, TopicPartition part, long lag) {
        lags.computeIfAbsent(part.topic(), key -> new TreeMap<>()).put(part.partition(), lag);
    }
}
